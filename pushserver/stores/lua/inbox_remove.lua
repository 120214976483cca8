#!lua flags=allow-oom
-- Take ids out of an inbox: settled, or dropped because their content is gone. Those are noted; if it was not
-- recalled, they count as missed, too. A key of another type holds none of them.
-- KEYS inbox, missed, gone (all {U})
-- ARGV '' settled | 'expired' | 'recalled', missed ttl in s, gone entries kept at most, gone ttl in s, ids...
-- -> how many were there
local dropped = {}
local gone = 0
for i = 5, #ARGV do
  local removed = redis.pcall('LREM', KEYS[1], 1, ARGV[i])
  if removed == 1 then
    gone = gone + 1
    dropped[gone] = ARGV[i]
  end
end
if gone == 0 or ARGV[1] == '' then
  return gone
end
if ARGV[1] == 'expired' then
  redis.call('HINCRBY', KEYS[2], 'expired', gone)
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
local time = redis.call('TIME')
local now = string.format('%d', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
for i = math.max(1, gone - tonumber(ARGV[3]) + 1), gone do
  redis.pcall('RPUSH', KEYS[3], ARGV[1] .. ' ' .. now .. ' ' .. dropped[i])
end
redis.pcall('LTRIM', KEYS[3], -tonumber(ARGV[3]), -1)
redis.pcall('EXPIRE', KEYS[3], ARGV[4])
return gone
