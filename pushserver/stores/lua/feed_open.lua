#!lua flags=allow-oom
-- Make the feed of a pod anew, before it listens: whoever appends finds it from now on. Nobody else makes it.
-- What was in it goes; its ids go on, so that no position means two entries.
-- KEYS pod:{POD}, feed:{POD}   ARGV[1] boot   -> id of the entry it begins with, false if a newer boot holds the name
if redis.call('HGET', KEYS[1], 'boot') ~= ARGV[1] then
  return false
end
local first = redis.pcall('XADD', KEYS[2], 'MAXLEN', 1, '*', 'boot', ARGV[1])
if type(first) == 'table' then -- of another type: somebody else's
  redis.call('DEL', KEYS[2])
  first = redis.call('XADD', KEYS[2], '*', 'boot', ARGV[1])
end
return first
