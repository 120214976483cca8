#!lua flags=allow-oom
-- Make the feed of a pod anew, before it listens: whoever appends finds it from now on. Nobody else makes it.
-- KEYS pod:{POD}, feed:{POD}   ARGV[1] boot   -> id of the entry it begins with, false if a newer boot holds the name
if redis.call('HGET', KEYS[1], 'boot') ~= ARGV[1] then
  return false
end
redis.call('DEL', KEYS[2])
return redis.call('XADD', KEYS[2], '*', 'boot', ARGV[1])
