#!lua flags=allow-oom
-- Recall a message: its content goes, and its record says so for as long as it would have lived. The record is
-- written first: if another program has written that key, nothing is done. A record that is kept only to explain
-- what became of its message is none.
-- KEYS msg:ID, publish:{msg:ID}   ARGV[1] record ttl in s for a content without a record
-- -> 1 recalled (now or before), 0 there is no such message
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if redis.call('PTTL', KEYS[1]) == -2 then
  local held = redis.call('EXISTS', KEYS[2]) == 1
  local forget_at = held and tonumber(redis.call('HGET', KEYS[2], 'forget_at'))
  if not held or (forget_at and forget_at <= now) then
    return 0
  end
end
redis.call('HSET', KEYS[2], 'recalled', 1)
redis.call('HSETNX', KEYS[2], 'recalled_at', now)
redis.call('DEL', KEYS[1])
if redis.call('TTL', KEYS[2]) < 0 then
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
return 1
