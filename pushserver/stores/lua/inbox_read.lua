#!lua flags=no-writes
-- One page of an inbox with the sequence of that moment.
-- KEYS inbox, seq, missed (all {U})   ARGV[1] ids to read   -> {seq, ids, expired, evicted, parked}
local missed = redis.call('HMGET', KEYS[3], 'expired', 'evicted', 'parked')
return {
  tonumber(redis.call('GET', KEYS[2]) or 0),
  redis.call('LRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1),
  tonumber(missed[1] or 0), tonumber(missed[2] or 0), tonumber(missed[3] or 0),
}
