#!lua flags=allow-oom
-- Move a user's cursor forward, never back.
-- KEYS[1] cursor:{U}   ARGV log id, ttl in s   -> 1 moved, 0 it was there or further
local function parts(id)
  local ms, seq = string.match(type(id) == 'string' and id or '', '^(%d+)-(%d+)$')
  return tonumber(ms) or -1, tonumber(seq) or -1
end
local ms, seq = parts(redis.pcall('GET', KEYS[1])) -- of another type: somebody else's
local to_ms, to_seq = parts(ARGV[1])
if to_ms < ms or (to_ms == ms and to_seq <= seq) then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
