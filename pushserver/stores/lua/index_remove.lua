#!lua flags=allow-oom
-- Take users out of a pod's index, only if the pod is still this boot.
-- KEYS pod:{POD}, pod-users:{POD}   ARGV boot, users...   -> how many went
if redis.call('HGET', KEYS[1], 'boot') ~= ARGV[1] then
  return 0
end
local gone = 0
for i = 2, #ARGV do
  gone = gone + redis.call('HDEL', KEYS[2], ARGV[i])
end
return gone
