-- Put a frame that is on no list any more (at-most-once) back to the head of the queue.
-- KEYS[1] waiting
-- ARGV[1] the frame
-- returns the length of the queue
-- LTRIM first, though it trims nothing: at maxmemory a plain LPUSH is refused.
redis.call('LTRIM', KEYS[1], 0, -1)
return redis.call('LPUSH', KEYS[1], ARGV[1])
