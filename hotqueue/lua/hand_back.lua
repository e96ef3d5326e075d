-- Release what a claim holds behind its first frames to the head, while its consumer goes on with those.
-- KEYS[1] waiting  KEYS[2] in flight  KEYS[3] claims
-- ARGV[1] incarnation  ARGV[2] claim  ARGV[3] keep: frames from the first that stay
-- returns how many were released: 0 also where this is not the incarnation's latest claim
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then return 0 end
-- LTRIM first, though it trims nothing: a full server refuses a script whose first write needs memory.
redis.call('LTRIM', KEYS[2], 0, -1)
local released = math.max(0, redis.call('LLEN', KEYS[2]) - ARGV[3])
for _ = 1, released do
  -- Newest first, each to the head: they end up at the head in the order they had.
  redis.call('LMOVE', KEYS[2], KEYS[1], 'RIGHT', 'LEFT')
end
return released
