#!lua flags=allow-oom
-- The user was told of these: take them off, never below nothing.
-- KEYS[1] missed:{U}   ARGV field and number pairs   -> nothing
for i = 1, #ARGV, 2 do
  if redis.call('HINCRBY', KEYS[1], ARGV[i], -tonumber(ARGV[i + 1])) <= 0 then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
