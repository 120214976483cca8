#!lua flags=no-writes
-- A content with the moment it goes away. A key of another type is a content that nobody can read: empty.
-- KEYS[1] msg:ID   -> {text or false, expiry in ms since 1970, -1 if never}
local text = redis.pcall('GET', KEYS[1])
return {type(text) == 'table' and '' or text, redis.call('PEXPIRETIME', KEYS[1])}
