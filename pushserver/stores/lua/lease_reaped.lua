#!lua flags=allow-oom
-- Delete a dead pod's keys as a whole, if it is still the boot that was claimed.
-- KEYS pod:{POD}, pod-users:{POD}, feed:{POD}   ARGV[1] the dead boot   -> 1 deleted, 0 not
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local held = redis.call('HMGET', KEYS[1], 'boot', 'expires')
if held[1] ~= ARGV[1] or (tonumber(held[2]) or 0) > now then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return 1
