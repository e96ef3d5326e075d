-- Acknowledge what is done, and move the frame after it to the dead list with its reason.
-- KEYS[1] in flight  KEYS[2] claims  KEYS[3] dead  KEYS[4] counters
-- ARGV[1] incarnation  ARGV[2] claim  ARGV[3] done  ARGV[4] the frame as it shall lie in the dead list
-- returns false if this is not the incarnation's latest claim, else the next claim number
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return false end
redis.call('LTRIM', KEYS[1], ARGV[3] + 1, -1)
if ARGV[3] ~= '0' then redis.call('HINCRBY', KEYS[4], 'done', ARGV[3]) end
local now = redis.call('TIME')
-- With its microseconds: in the order of their burial.
redis.call('ZADD', KEYS[3], now[1] * 1000 + now[2] / 1000, ARGV[4])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] + 1)
return ARGV[2] + 1
