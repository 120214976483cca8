#!lua flags=allow-oom
-- Put users into a pod's index. A superset is allowed, so no boot is compared.
-- KEYS[1] pod-users:{POD}   ARGV boot, users...   -> how many are new
local new = 0
for i = 2, #ARGV do
  new = new + redis.call('HSET', KEYS[1], ARGV[i], ARGV[1])
end
return new
