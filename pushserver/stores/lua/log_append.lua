#!lua
-- Append a message to the log unless it was there before; the stream is trimmed by length and by age. It always
-- writes, for WAIT answers for the last write of its connection.
-- KEYS log, log-seen:{log}
-- ARGV id and expiry, entries kept at most, ms an entry is kept, ms an id is remembered, then fields and values
-- -> 1 appended, 0 was there before
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[4]))
local new = not redis.call('ZSCORE', KEYS[2], ARGV[1])
if new then
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, 5))
  redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%d', now - tonumber(ARGV[3])))
  redis.call('ZADD', KEYS[2], now, ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[2]) - 1)
end
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return new and 1 or 0
