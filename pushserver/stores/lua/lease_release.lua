#!lua flags=allow-oom
-- An orderly leave: the lease and what hangs on it, unless a newer boot holds the name.
-- KEYS pod:{POD}, pod-users:{POD}, feed:{POD}   ARGV[1] boot   -> 1 released, 0 not
if redis.call('HGET', KEYS[1], 'boot') ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return 1
