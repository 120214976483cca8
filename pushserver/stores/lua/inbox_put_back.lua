#!lua
-- Put a parked id back, behind all that waits, and read, after it, the pods the user is on. It leaves the parked
-- ones last: what may fail because another program wrote a key comes before. What was noted of its parking is
-- blanked, not removed: a list of notes that is full still says that there were more.
-- KEYS inbox, seq, parked, presence, gone (all {U})   ARGV id, ttl in s
-- -> {1 put back | 0 it is not parked, seq, fields and values of presence}
if not redis.call('LPOS', KEYS[3], ARGV[1]) then
  return {0, 0, {}}
end
local seq = redis.call('INCR', KEYS[2])
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LREM', KEYS[3], 1, ARGV[1])
for i = 1, 2 do
  if redis.call('TTL', KEYS[i]) < tonumber(ARGV[2]) then
    redis.call('EXPIRE', KEYS[i], ARGV[2])
  end
end
local notes = redis.pcall('LRANGE', KEYS[5], 0, -1)
for i = 1, notes.err and 0 or #notes do
  if notes[i]:match('^parked %d+ (.+)$') == ARGV[1] then
    redis.call('LSET', KEYS[5], i - 1, '')
  end
end
local presence = redis.pcall('HGETALL', KEYS[4])
return {1, seq, presence.err and {} or presence}
