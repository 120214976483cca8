#!lua flags=allow-oom
-- Remove presence, unless it was written by a newer boot. A key of another type holds none, and does not
-- keep a reaper from its work.
-- KEYS[1] presence:{U}   ARGV field, boot   -> 1 removed, 0 was not there, -1 is newer
local held = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(held) ~= 'string' then
  return 0
end
local ok, record = pcall(cjson.decode, held)
local boot = ok and type(record) == 'table' and tonumber(record['boot']) or 0
if boot > tonumber(ARGV[2]) and boot < 2^53 then
  return -1
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
