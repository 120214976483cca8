#!lua flags=allow-oom
-- Renew the lease, unless it lapsed: one that expired, was claimed or is gone is never renewed, its
-- holder registers under a new boot.
-- KEYS pod:{POD}, feed:{POD}   ARGV boot, lease in ms
-- -> {1, now ms, expires ms, id of the feed's first entry or false if there is no feed} renewed;
--    {0, now ms} lapsed; {2, now ms, larger boot, its host} taken over
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local held = redis.call('HMGET', KEYS[1], 'boot', 'expires', 'claimed', 'host')
local boot = tonumber(held[1]) or 0
if boot > tonumber(ARGV[1]) then
  return {2, now, boot, held[4] or ''}
end
if boot < tonumber(ARGV[1]) or held[3] or (tonumber(held[2]) or 0) <= now then
  return {0, now}
end
local expires = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'expires', expires)
local feed = redis.pcall('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)
return {1, now, expires, not feed.err and feed[1] and feed[1][1] or false}
