#!lua flags=no-writes
-- One page of an inbox with the sequence of that moment.
-- KEYS inbox, seq, missed (all {U})   ARGV[1] ids to read   -> {seq, ids, expired, evicted, parked}
local function number(text)
  return tonumber(text) or 0
end
local missed = redis.call('HMGET', KEYS[3], 'expired', 'evicted', 'parked')
return {
  number(redis.call('GET', KEYS[2])),
  redis.call('LRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1),
  number(missed[1]), number(missed[2]), number(missed[3]),
}
