#!lua flags=no-writes
-- What the rescan compares with the Manager.
-- KEYS presence, seq (both {U})   ARGV[1] field   -> {seq, field or false}
return {tonumber(redis.call('GET', KEYS[2])) or 0, redis.call('HGET', KEYS[1], ARGV[1])}
