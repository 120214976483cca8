#!lua flags=allow-oom
-- Append an entry to a pod's feed if that pod has made one. allow-oom: its length is bounded, and a user must be
-- disconnected in a full Redis, too.
-- KEYS feed:{POD}, pod:{POD}   ARGV entries kept at most, then fields and values
-- -> 1 appended; 0 there is no feed, but a lease; -1 there is neither, the pod is dead
if redis.call('XADD', KEYS[1], 'NOMKSTREAM', 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2)) then
  return 1
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local expires = tonumber(redis.call('HGET', KEYS[2], 'expires') or 0) or 0
return expires > now and 0 or -1
