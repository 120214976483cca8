#!lua flags=allow-oom
-- Register this process under its boot, taking over from any smaller one, dead or alive.
-- KEYS[1] pod:{POD}
-- ARGV boot, lease in ms, then field and value pairs (host, address, started, version)
-- -> {1, now ms, expires ms} or {0, now ms, larger boot, its host, 1 if its lease has run out else 0}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local held = redis.call('HMGET', KEYS[1], 'boot', 'host', 'expires')
local boot = tonumber(held[1]) or 0
if boot > tonumber(ARGV[1]) then
  return {0, now, boot, held[2] or '', (tonumber(held[3]) or 0) <= now and 1 or 0}
end
local expires = now + tonumber(ARGV[2])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'boot', ARGV[1], 'expires', expires, unpack(ARGV, 3))
return {1, now, expires}
