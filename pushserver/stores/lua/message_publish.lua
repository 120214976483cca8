#!lua
-- Write a message's content and the record of its publish, once. The record outlives the content, so a repeat
-- is told from another message under the same id. It always writes (times to live at least), for WAIT answers
-- for the last write of its connection.
-- KEYS msg:ID, publish:{msg:ID}
-- ARGV digest, content ttl in s (0: nothing is stored but the record), record ttl in s, the text up to its time,
--      the text behind its time
-- -> {1 new | 2 a repeat | 3 a repeat of what was sent | 0 the id is another message's | -1 recalled, time in ms}
local held = redis.call('HMGET', KEYS[2], 'digest', 'queued_at', 'recalled', 'sent')
if held[3] then
  return {-1, 0}
end
if held[1] then
  redis.call('EXPIRE', KEYS[2], math.max(tonumber(ARGV[3]), redis.call('TTL', KEYS[2])))
  if held[1] ~= ARGV[1] then
    return {0, 0}
  end
  return {held[4] and 3 or 2, tonumber(held[2]) or 0}
end
if redis.call('EXISTS', KEYS[1]) == 1 then -- another program's, without a record
  return {0, 0}
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[1], ARGV[4] .. string.format('%d', now) .. ARGV[5], 'EX', ARGV[2])
end
redis.call('HSET', KEYS[2], 'digest', ARGV[1], 'queued_at', now)
redis.call('EXPIRE', KEYS[2], ARGV[3])
return {1, now}
