#!lua flags=allow-oom
-- The client closed because of what it was sent. The first such close only raises a suspicion (the next
-- catch-up goes one by one); an id that is alone in flight at two more of them is parked, and that is noted. One
-- from the log is in no inbox: the caller moves the cursor past it.
-- KEYS blame, inbox, parked, missed, gone (all {U})
-- ARGV the id alone in flight or '', blame ttl in s, parked ttl in s, missed ttl in s, 1 if it is from the log,
--      gone entries kept at most, gone ttl in s
-- -> 1 parked, 0 not
local first = redis.call('HSETNX', KEYS[1], '*', 1) == 1
redis.call('EXPIRE', KEYS[1], ARGV[2])
if first or ARGV[1] == '' then
  return 0
end
if redis.call('HINCRBY', KEYS[1], ARGV[1], 1) < 2 then
  return 0
end
redis.call('DEL', KEYS[1])
if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 and ARGV[5] == '0' then
  return 0
end
redis.call('RPUSH', KEYS[3], ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[3])
redis.call('HINCRBY', KEYS[4], 'parked', 1)
redis.call('EXPIRE', KEYS[4], ARGV[4])
local time = redis.call('TIME')
local now = string.format('%d', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.pcall('RPUSH', KEYS[5], 'parked ' .. now .. ' ' .. ARGV[1])
redis.pcall('LTRIM', KEYS[5], -tonumber(ARGV[6]), -1)
redis.pcall('EXPIRE', KEYS[5], ARGV[7])
return 1
