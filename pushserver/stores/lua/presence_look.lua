#!lua flags=no-writes
-- What the rescan compares with the Manager.
-- KEYS presence, seq, categories (all {U})   ARGV[1] field
-- -> {seq, field or false, version of the categories (0: never written)}
local version = redis.pcall('HGET', KEYS[3], 'version')
return {
  tonumber(redis.call('GET', KEYS[2])) or 0,
  redis.call('HGET', KEYS[1], ARGV[1]),
  type(version) == 'string' and tonumber(version) or 0,
}
