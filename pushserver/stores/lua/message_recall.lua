#!lua flags=allow-oom
-- Recall a message: its content goes, and its record says so for as long as it would have lived. The record is
-- written first: if another program has written that key, nothing is done.
-- KEYS msg:ID, publish:{msg:ID}   ARGV[1] record ttl in s for a content without a record
-- -> 1 recalled (now or before), 0 there is no such message
local content = redis.call('PTTL', KEYS[1])
if content == -2 and redis.call('EXISTS', KEYS[2]) == 0 then
  return 0
end
redis.call('HSET', KEYS[2], 'recalled', 1)
redis.call('DEL', KEYS[1])
if redis.call('TTL', KEYS[2]) < 0 then
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
return 1
