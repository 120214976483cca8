#!lua flags=allow-oom
-- Move a user's cursor forward, never back. One that is gone is made anew (Redis came back empty), but not by
-- what settles after the user has left: perhaps the user was erased.
-- KEYS[1] cursor:{U}   ARGV log id, ttl in s, 1 to make it anew or 0
-- -> 1 moved, 0 it was there or further, or is gone
local function parts(id)
  local ms, seq = string.match(type(id) == 'string' and id or '', '^(%d+)-(%d+)$')
  return tonumber(ms) or -1, tonumber(seq) or -1
end
local held = redis.pcall('GET', KEYS[1]) -- an error if it is of another type: somebody else's
if not held and ARGV[3] == '0' then
  return 0
end
local ms, seq = parts(held)
local to_ms, to_seq = parts(ARGV[1])
if to_ms < ms or (to_ms == ms and to_seq <= seq) then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
