#!lua
-- Append an id to a user's inbox and read, after it, the pods the user is on: one of the two sides
-- always sees the message (the other is presence_set, which reads after it has written).
-- It always writes (times to live at least), for WAIT answers for the last write of its connection. What
-- may fail because another program wrote the key comes before the first write of the message.
-- KEYS inbox, seq, seen, missed, presence (all {U})
-- ARGV id, cap, content ttl in s, idempotency in s, ids remembered at most, missed ttl in s
-- -> {1 appended | 2 in the inbox already | 0 was there before, seq, evicted, fields and values of presence}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local function keep(key, seconds)
  if redis.call('PTTL', key) < seconds * 1000 then
    redis.call('EXPIRE', key, seconds)
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - tonumber(ARGV[4]) * 1000)
local status = 1
if redis.call('LPOS', KEYS[1], ARGV[1]) then
  status = 2
elseif redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  status = 0
end
local evicted = 0
if status == 1 then
  redis.call('INCR', KEYS[2])
  redis.call('RPUSH', KEYS[1], ARGV[1])
  redis.call('ZADD', KEYS[3], now, ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -tonumber(ARGV[5]) - 1)
  evicted = redis.call('LLEN', KEYS[1]) - tonumber(ARGV[2])
  if evicted > 0 then
    redis.call('LPOP', KEYS[1], evicted)
    redis.call('HINCRBY', KEYS[4], 'evicted', evicted)
    redis.call('EXPIRE', KEYS[4], ARGV[6])
  else
    evicted = 0
  end
end
keep(KEYS[1], tonumber(ARGV[3]))
keep(KEYS[2], tonumber(ARGV[3]))
redis.call('EXPIRE', KEYS[3], ARGV[4])
local presence = redis.pcall('HGETALL', KEYS[5])
return {status, tonumber(redis.call('GET', KEYS[2])) or 0, evicted, presence.err and {} or presence}
