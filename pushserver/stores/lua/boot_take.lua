#!lua flags=allow-oom
-- A new boot, larger than any given out and than the caller's own last one (an emptied Redis counts anew).
-- KEYS[1] boots   ARGV[1] the caller's last boot, 0 at start   -> boot
local boot = redis.call('INCR', KEYS[1])
local floor = tonumber(ARGV[1])
if boot <= floor then
  boot = floor + 1
  redis.call('SET', KEYS[1], boot)
end
return boot
