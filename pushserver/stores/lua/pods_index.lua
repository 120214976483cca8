#!lua flags=allow-oom
-- Say in the index of pods when a lease runs out. A script, for a full Redis refuses ZADD alone, and with it
-- every heartbeat.
-- KEYS[1] pods   ARGV pod, expires in ms   -> 1 if it is new, else 0
return redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
