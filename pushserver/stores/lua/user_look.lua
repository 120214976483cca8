#!lua flags=no-writes
-- Every message that is known of a user, at one moment. A key of another type says nothing.
-- KEYS inbox, parked, gone (all {U})   -> {ids that wait, ids parked, entries of gone}
local lists = {}
for i = 1, 3 do
  local held = redis.pcall('LRANGE', KEYS[i], 0, -1)
  lists[i] = held.err and {} or held
end
return lists
