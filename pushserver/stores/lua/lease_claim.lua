#!lua flags=allow-oom
-- A reaper takes away an expired lease, in the script that reads its expiry: its holder cannot renew it
-- afterwards. Claimed already: claimed again, for the first reaper may have died (reaping twice is harmless).
-- KEYS[1] pod:{POD}   ARGV the claiming pod
-- -> the dead boot; 0 if the lease is valid; -1 if there is none, or what is there is no lease
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local held = redis.pcall('HMGET', KEYS[1], 'boot', 'expires')
local boot = not held.err and tonumber(held[1])
if not boot then
  return -1
end
if (tonumber(held[2]) or 0) > now then
  return 0
end
redis.call('HSET', KEYS[1], 'claimed', ARGV[1])
return boot
