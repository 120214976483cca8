#!lua
-- Store a user's categories as a whole, and read, after it, the pods the user is on: those are to be told. The
-- version tells a pod that read the former ones, and was not present yet, that they are no longer right.
-- KEYS categories, presence (both {U})   ARGV kind and JSON list of values in turn   -> fields and values of presence
local time = redis.call('TIME')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', time[1] .. string.format('%06d', tonumber(time[2])), unpack(ARGV))
local presence = redis.pcall('HGETALL', KEYS[2])
return presence.err and {} or presence
