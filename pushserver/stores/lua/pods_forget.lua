#!lua flags=allow-oom
-- Take a dead pod out of the index, unless it came back: then it says a time that is yet to come.
-- KEYS[1] pods   ARGV[1] pod   -> 1 if it went, else 0
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local expires = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not expires or tonumber(expires) > now then
  return 0
end
return redis.call('ZREM', KEYS[1], ARGV[1])
