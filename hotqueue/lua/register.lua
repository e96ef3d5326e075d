-- Enter a new incarnation, before it takes anything.
-- KEYS[1] consumers  KEYS[2] claims  KEYS[3] owners  KEYS[4] retired
-- ARGV[1] incarnation  ARGV[2] lease, ms  ARGV[3] owner, JSON
-- returns 0, the number of its first claim; false if it has been retired, because this command comes late
if redis.call('ZSCORE', KEYS[4], ARGV[1]) then return false end
-- ZREM first: a script whose first write frees memory may write at maxmemory, a plain ZADD is refused there.
redis.call('ZREM', KEYS[1], ARGV[1])
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], 0)
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
return 0
