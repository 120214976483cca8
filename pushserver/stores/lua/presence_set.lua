#!lua flags=allow-oom
-- Write presence, unless a newer boot of the same pod name has, and read the first page of the inbox
-- after it: whoever appends later finds this presence, whoever appended before is in the page.
-- KEYS presence, inbox, seq, missed, blame, categories (all {U})
-- ARGV field, boot, since ms, ids to read (0: none)
-- -> {written 1/0} or
--    {written 1/0, seq, ids, expired, evicted, parked, blamed 1/0, version of the categories (0: never written)}
local function number(text)
  return tonumber(text) or 0
end
local held = redis.call('HGET', KEYS[1], ARGV[1])
local boot = -1
if held then
  local ok, record = pcall(cjson.decode, held)
  boot = ok and type(record) == 'table' and tonumber(record['boot']) or 0
end
if not (boot < 2^53) then -- NaN or infinite: nobody's
  boot = 0
end
local mine = tonumber(ARGV[2])
if boot < mine then
  redis.call('HSET', KEYS[1], ARGV[1], '{"boot":' .. ARGV[2] .. ',"since":' .. ARGV[3] .. '}')
end
local written = boot <= mine and 1 or 0
local count = tonumber(ARGV[4])
if count == 0 then
  return {written}
end
local version = redis.pcall('HGET', KEYS[6], 'version')
local missed = redis.call('HMGET', KEYS[4], 'expired', 'evicted', 'parked')
return {
  written,
  number(redis.call('GET', KEYS[3])),
  redis.call('LRANGE', KEYS[2], 0, count - 1),
  number(missed[1]), number(missed[2]), number(missed[3]),
  redis.call('EXISTS', KEYS[5]),
  number(type(version) == 'string' and version),
}
