#!lua flags=allow-oom
-- Take ids out of an inbox: settled, or dropped because their content is gone, which counts as missed.
-- A key of another type holds none of them.
-- KEYS inbox, missed (both {U})
-- ARGV '' or the field of missed to raise, missed ttl in s, ids...   -> how many were there
local gone = 0
for i = 3, #ARGV do
  local removed = redis.pcall('LREM', KEYS[1], 1, ARGV[i])
  gone = gone + (type(removed) == 'number' and removed or 0)
end
if gone > 0 and ARGV[1] ~= '' then
  redis.call('HINCRBY', KEYS[2], ARGV[1], gone)
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return gone
