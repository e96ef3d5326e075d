-- Put a frame that is on no list any more (at-most-once) in the dead list.
-- KEYS[1] dead
-- ARGV[1] the frame with its reason
-- returns 1
redis.call('ZREM', KEYS[1], ARGV[1])
local now = redis.call('TIME')
-- With its microseconds: in the order of their burial.
return redis.call('ZADD', KEYS[1], now[1] * 1000 + now[2] / 1000, ARGV[1])
