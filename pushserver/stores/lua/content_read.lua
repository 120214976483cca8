#!lua flags=no-writes
-- A content with the moment it goes away. A key of another type is a content that nobody can read: empty; a
-- record of another type says nothing.
-- KEYS msg:ID, publish:{msg:ID}
-- -> {text or false, expiry in ms since 1970 (-1 if never, -2 if it is gone), 1 if it was recalled else 0}
local text = redis.pcall('GET', KEYS[1])
local expiry = redis.call('PEXPIRETIME', KEYS[1])
local recalled = expiry == -2 and redis.pcall('HEXISTS', KEYS[2], 'recalled') or 0
return {type(text) == 'table' and '' or text, expiry, recalled == 1 and 1 or 0}
