#!lua flags=no-writes
-- Every message that is known of a user, at one moment. A key of another type says nothing. A note that is older
-- than the time its id was appended anew (by a repeat, long after) says nothing any more, and comes as ''.
-- KEYS inbox, parked, gone, seen (all {U})   -> {ids that wait, ids parked, entries of gone}
local lists = {}
for i = 1, 3 do
  local held = redis.pcall('LRANGE', KEYS[i], 0, -1)
  lists[i] = held.err and {} or held
end
for i, entry in ipairs(lists[3]) do
  local at, id = entry:match('^%l+ (%d+) (.+)$')
  local appended = id and redis.pcall('ZSCORE', KEYS[4], id)
  if type(appended) == 'string' and tonumber(at) < tonumber(appended) then
    lists[3][i] = ''
  end
end
return lists
