#!lua flags=allow-oom
-- Note that a message for the live was handed to the pods. Only in its record: without one, which went away
-- meanwhile, the note would stay for ever.
-- KEYS[1] publish:{msg:ID}   -> 1 noted, 0 there is no record
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'sent', 1)
return 1
