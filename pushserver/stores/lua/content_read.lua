#!lua flags=no-writes
-- A content with the moment it goes away.
-- KEYS[1] msg:ID   -> {text or false, expiry in ms since 1970, -1 if never}
return {redis.call('GET', KEYS[1]), redis.call('PEXPIRETIME', KEYS[1])}
