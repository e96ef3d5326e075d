-- Have a supervisor known for a while, and forget those that were not heard of for as long.
-- KEYS[1] supervisors  KEYS[2] what it says of itself  KEYS[3] somebody watches while it exists
-- ARGV[1] its id  ARGV[2] for how long, ms; 0 if it ends  ARGV[3…] fields and values, none if it ends
-- returns 1 if somebody watches, else 0
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
-- First what frees memory: so it is known on a full server, too.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms)
if #ARGV > 2 then
  redis.call('ZADD', KEYS[1], now_ms + ARGV[2], ARGV[1])
  redis.call('HSET', KEYS[2], unpack(ARGV, 3))
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return redis.call('EXISTS', KEYS[3])
