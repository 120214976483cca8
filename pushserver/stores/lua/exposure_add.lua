#!lua flags=allow-oom
-- Add exposure events in order while the stream has room. allow-oom, for a full Redis refuses XADD and a
-- message that cannot be exposed is never settled; the length bounds it.
-- KEYS[1] exposures   ARGV[1] entries the stream may hold, ARGV[2..] data of the entries
-- -> how many were added: the first ones
local room = tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1])
local added = math.max(0, math.min(room, #ARGV - 1))
for i = 2, added + 1 do
  redis.call('XADD', KEYS[1], '*', 'data', ARGV[i])
end
return added
