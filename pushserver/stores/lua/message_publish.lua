#!lua
-- Write a message's content and the record of its publish, once. The record outlives the content, so a repeat
-- is told from another message under the same id. It always writes (times to live at least), for WAIT answers
-- for the last write of its connection. A record that is kept only to explain what became of its message
-- (`forget_at` is past) stands in nobody's way.
-- KEYS msg:ID, publish:{msg:ID}
-- ARGV digest, content ttl in s (0: nothing is stored but the record), record ttl in s, the text up to its time,
--      the text behind its time, kind, users named (0: not for users), s the record is kept beyond its ttl
-- -> {1 new | 2 a repeat | 3 a repeat of what was sent | 0 the id is another message's | -1 recalled, time in ms,
--     1 if an earlier publish was completed else 0}
local held = redis.call('HMGET', KEYS[2], 'digest', 'queued_at', 'recalled', 'sent', 'forget_at', 'accepted_at')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local forget_at = now + tonumber(ARGV[3]) * 1000
local kept_s = tonumber(ARGV[3]) + tonumber(ARGV[8])
local over = (tonumber(held[5]) or now + 1) <= now
if held[3] and not over then
  return {-1, 0, 0}
end
if held[1] and not over then
  if held[1] == ARGV[1] and forget_at > (tonumber(held[5]) or 0) then
    redis.call('HSET', KEYS[2], 'forget_at', forget_at)
  end
  redis.call('EXPIRE', KEYS[2], math.max(kept_s, redis.call('TTL', KEYS[2])))
  if held[1] ~= ARGV[1] then
    return {0, 0, 0}
  end
  return {held[4] and 3 or 2, tonumber(held[2]) or 0, held[6] and 1 or 0}
end
if redis.call('EXISTS', KEYS[1]) == 1 then -- another program's, without a record
  return {0, 0, 0}
end
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[1], ARGV[4] .. string.format('%d', now) .. ARGV[5], 'EX', ARGV[2])
end
if over then
  redis.call('DEL', KEYS[2])
end
redis.call('HSET', KEYS[2], 'digest', ARGV[1], 'queued_at', now, 'forget_at', forget_at, 'kind', ARGV[6],
  'users', ARGV[7])
redis.call('EXPIRE', KEYS[2], kept_s)
return {1, now, 0}
