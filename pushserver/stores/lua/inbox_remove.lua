#!lua flags=allow-oom
-- Take ids out of an inbox: settled, or dropped because their content is gone, which counts as missed.
-- KEYS inbox, missed (both {U})
-- ARGV '' or the field of missed to raise, missed ttl in s, ids...   -> how many were there
local gone = 0
for i = 3, #ARGV do
  gone = gone + redis.call('LREM', KEYS[1], 1, ARGV[i])
end
if gone > 0 and ARGV[1] ~= '' then
  redis.call('HINCRBY', KEYS[2], ARGV[1], gone)
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return gone
