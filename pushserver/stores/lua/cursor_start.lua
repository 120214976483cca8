#!lua flags=allow-oom
-- Where a user stands in the log; who has never been here, or whose cursor somebody else wrote over, stands where
-- the caller says.
-- KEYS[1] cursor:{U}   ARGV log id, ttl in s   -> log id
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and string.match(held, '^%d+-%d+$') then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  return held
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return ARGV[1]
