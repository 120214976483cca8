#!lua
-- Append an id to a user's inbox and read, after it, the pods the user is on: one of the two sides
-- always sees the message (the other is presence_set, which reads after it has written).
-- It always writes (times to live at least), for WAIT answers for the last write of its connection. What
-- may fail because another program wrote the key comes before the first write of the message; what is noted
-- of evicted ones may fail without a word.
-- KEYS inbox, seq, seen, missed, presence, gone (all {U}); msg:ID as well if the append was asked for before the
--      content's answer came: it is refused unless the content is there
-- ARGV id, cap, inbox ttl in s, idempotency in s, ids remembered at most, missed ttl in s, gone entries kept at
--      most, gone ttl in s, 1 if it is known that every user has had it: then it is never appended again
-- -> {1 appended | 2 in the inbox already | 0 was there before, seq, evicted, fields and values of presence}
if KEYS[7] and redis.call('EXISTS', KEYS[7]) == 0 then
  return redis.error_reply('NOCONTENT nothing is behind the id')
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local function keep(key, is_new)
  -- GT takes a key without a time to live for one that lives for ever, so NX comes behind it.
  if is_new or redis.call('EXPIRE', key, ARGV[3], 'GT') == 0 then
    redis.call('EXPIRE', key, ARGV[3], 'NX')
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - tonumber(ARGV[4]) * 1000)
local status = 1
if redis.call('LPOS', KEYS[1], ARGV[1]) then
  status = 2
elseif ARGV[9] == '1' or redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  status = 0
end
local seq, length, evicted = nil, 0, 0
if status == 1 then
  seq = redis.call('INCR', KEYS[2])
  length = redis.call('RPUSH', KEYS[1], ARGV[1])
  redis.call('ZADD', KEYS[3], now, ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -tonumber(ARGV[5]) - 1)
  evicted = math.max(0, length - tonumber(ARGV[2]))
  if evicted > 0 then
    local ids = redis.call('LPOP', KEYS[1], evicted)
    redis.call('HINCRBY', KEYS[4], 'evicted', evicted)
    redis.call('EXPIRE', KEYS[4], ARGV[6])
    for i = math.max(1, #ids - tonumber(ARGV[7]) + 1), #ids do
      redis.pcall('RPUSH', KEYS[6], 'evicted ' .. string.format('%d', now) .. ' ' .. ids[i])
    end
    redis.pcall('LTRIM', KEYS[6], -tonumber(ARGV[7]), -1)
    redis.pcall('EXPIRE', KEYS[6], ARGV[8])
  end
end
keep(KEYS[1], length == 1)
keep(KEYS[2], seq == 1)
redis.call('EXPIRE', KEYS[3], ARGV[4])
seq = seq or tonumber(redis.call('GET', KEYS[2])) or 0
local presence = redis.pcall('HGETALL', KEYS[5])
return {status, seq, evicted, presence.err and {} or presence}
