#!lua flags=allow-oom
-- Remove all that is kept of a user, and say what waited, was parked, or was known to have gone.
-- KEYS inbox, parked, gone, others... (all {U})   -> {ids that waited, ids parked, entries of gone}
local lists = {}
for i = 1, 3 do
  local held = redis.pcall('LRANGE', KEYS[i], 0, -1)
  lists[i] = held.err and {} or held
end
redis.call('DEL', unpack(KEYS))
return lists
