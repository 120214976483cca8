#!lua flags=allow-oom
-- Count a user who was erased while this message waited, was parked, or was known to have gone. Who it was is
-- written nowhere.
-- KEYS[1] publish:{msg:ID}   -> users erased so far, 0 if there is no record
if redis.call('HEXISTS', KEYS[1], 'digest') == 0 then
  return 0
end
return redis.call('HINCRBY', KEYS[1], 'erased', 1)
