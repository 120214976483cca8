#!lua flags=allow-oom
-- Answer a question. It goes away by itself: whoever asked may have gone.
-- KEYS[1] reply:TOKEN   ARGV pod, text, ttl in s   -> 1 the pod's first answer, else 0
local new = redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return new
