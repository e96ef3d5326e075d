-- Acknowledge what is done, and put the frame after it aside until it is due again; at the tail if that is now.
-- KEYS[1] in flight  KEYS[2] claims  KEYS[3] delayed  KEYS[4] counters  KEYS[5] waiting
-- ARGV[1] incarnation  ARGV[2] claim  ARGV[3] done  ARGV[4] the frame with its new trail  ARGV[5] delay, ms
-- returns false if this is not the incarnation's latest claim, else the next claim number
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return false end
redis.call('LTRIM', KEYS[1], ARGV[3], -1)
if ARGV[3] ~= '0' then redis.call('HINCRBY', KEYS[4], 'done', ARGV[3]) end
if tonumber(ARGV[5]) == 0 then
  redis.call('RPUSH', KEYS[5], ARGV[4])
else
  local now = redis.call('TIME')
  -- With its microseconds: never early, and what came first is due first.
  redis.call('ZADD', KEYS[3], now[1] * 1000 + now[2] / 1000 + ARGV[5], ARGV[4])
end
redis.call('LPOP', KEYS[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] + 1)
return ARGV[2] + 1
