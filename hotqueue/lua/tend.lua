-- Move messages that are due to the tail of the queue, and say what else there is to do for it.
-- KEYS[1] waiting  KEYS[2] delayed  KEYS[3] retired  KEYS[4] paused
-- ARGV[1] frames and ARGV[2] bytes to move at most in one call
-- returns {number moved; ms until the next one is due, -1 if there is none; 1 if paused; retired lists due to be swept…}
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local moved, bytes = 0, 0
for _, frame in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now_ms, 'LIMIT', 0, ARGV[1])) do
  -- ZREM first: it frees memory, so that the push is allowed on a full server.
  redis.call('ZREM', KEYS[2], frame)
  redis.call('RPUSH', KEYS[1], frame)
  moved = moved + 1
  bytes = bytes + #frame
  if bytes >= tonumber(ARGV[2]) then break end
end
local reply = { moved, -1, redis.call('EXISTS', KEYS[4]) }
local next = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if next[2] then reply[2] = math.max(0, next[2] - now_ms) end
for _, incarnation in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now_ms, 'LIMIT', 0, 16)) do
  reply[#reply + 1] = incarnation
end
return reply
