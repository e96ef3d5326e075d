-- Move messages that are due to the tail of the queue, and say what else there is to do for it.
-- KEYS[1] waiting  KEYS[2] delayed  KEYS[3] retired  KEYS[4] paused
-- ARGV[1] frames and ARGV[2] bytes to move at most in one call (one frame may exceed it)
-- returns {number moved; ms until the next one is due, -1 if there is none; 1 if paused; retired lists due to be swept…}
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + now[2] / 1000
local moved, bytes, next_ms = 0, 0, -1
while true do
  -- One at a time: all that is due, read at once, might be gigabytes.
  local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  if not first[1] then break end
  next_ms = math.max(0, math.ceil(first[2] - now_ms))
  if next_ms > 0 or moved >= tonumber(ARGV[1]) or bytes >= tonumber(ARGV[2]) then break end
  -- LTRIM first, though it trims nothing: at maxmemory a plain RPUSH is refused.
  if moved == 0 then redis.call('LTRIM', KEYS[1], 0, -1) end
  redis.call('RPUSH', KEYS[1], first[1])
  redis.call('ZREM', KEYS[2], first[1])
  moved = moved + 1
  bytes = bytes + #first[1]
  next_ms = -1
end
local reply = { moved, next_ms, redis.call('EXISTS', KEYS[4]) }
for _, incarnation in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now_ms, 'LIMIT', 0, 16)) do
  reply[#reply + 1] = incarnation
end
return reply
