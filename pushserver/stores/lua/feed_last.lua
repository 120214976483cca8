#!lua flags=no-writes
-- Where a feed ends; only the id, for an entry may be large.
-- KEYS feed:{POD}   -> the id of its last entry, nil if there is none
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
return last[1] and last[1][1]
