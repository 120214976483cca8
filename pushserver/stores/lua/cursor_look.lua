#!lua flags=no-writes
-- Where a user stands in the log. What another program wrote is no cursor.
-- KEYS[1] cursor:{U}   -> log id or false
local held = redis.pcall('GET', KEYS[1])
return type(held) == 'string' and string.match(held, '^%d+%-%d+$') and held or false
