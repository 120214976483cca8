#!lua flags=no-writes
-- What is on record of a message, and whether its content is there.
-- KEYS msg:ID, publish:{msg:ID}
-- -> {expiry of the content in ms since 1970 (-1 if never, -2 if it is gone), kind, users, queued_at, accepted_at,
--     recalled, recalled_at, sent, erased, digest}; false for what is not on record
local held = redis.pcall('HMGET', KEYS[2], 'kind', 'users', 'queued_at', 'accepted_at', 'recalled', 'recalled_at',
  'sent', 'erased', 'digest')
if held.err then -- of another type: somebody else's
  held = {false, false, false, false, false, false, false, false, false}
end
return {redis.call('PEXPIRETIME', KEYS[1]), unpack(held)}
