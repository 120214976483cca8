#!lua flags=allow-oom
-- Note that a publish was completed: every user it names has the message. Only in its record: without one,
-- which went away meanwhile, the note would stay for ever. The first note stays.
-- KEYS[1] publish:{msg:ID}   ARGV[1] time in ms   -> 1 noted, 0 it was noted before, or there is no record
if redis.call('HEXISTS', KEYS[1], 'digest') == 0 then
  return 0
end
return redis.call('HSETNX', KEYS[1], 'accepted_at', ARGV[1])
