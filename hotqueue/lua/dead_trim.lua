-- Delete the oldest of the dead list, as far as they are too many or too old.
-- KEYS[1] dead  KEYS[2] counters
-- ARGV[1] messages to keep at most, or ''  ARGV[2] ms that they may be dead, or ''
-- ARGV[3] frames and ARGV[4] bytes to delete at most in one call (one frame may exceed it)
-- returns {number deleted, number left, 1 if there may be more to delete}
local now = redis.call('TIME')
local until_ms = ARGV[2] ~= '' and now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[2] or -1
local length = redis.call('ZCARD', KEYS[1])
local over = ARGV[1] ~= '' and length - ARGV[1] or 0
local deleted, bytes = 0, 0
while deleted < tonumber(ARGV[3]) and bytes < tonumber(ARGV[4]) do
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if not oldest[1] or (deleted >= over and tonumber(oldest[2]) > until_ms) then
    if deleted > 0 then redis.call('HINCRBY', KEYS[2], 'trimmed', deleted) end
    return { deleted, length - deleted, 0 }
  end
  redis.call('ZREM', KEYS[1], oldest[1])
  deleted = deleted + 1
  bytes = bytes + #oldest[1]
end
redis.call('HINCRBY', KEYS[2], 'trimmed', deleted)
return { deleted, length - deleted, 1 }
