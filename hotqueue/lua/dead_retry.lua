-- Put frames of the dead list back at the tail of the queue; of their trail stays only when that was, so that they do
-- not expire at once. A body that came bare goes back bare.
-- KEYS[1] dead  KEYS[2] waiting
-- ARGV[1] the oldest ones buried until then, ms, or '' for those given  ARGV[2] frames and ARGV[3] bytes to move at most
-- ARGV[4…] frames
-- returns how many were there and were moved
local now = redis.call('TIME')
local trail = string.format('{"revived":%.0f}', now[1] * 1000 + math.floor(now[2] / 1000))

local function revived(frame)
  local flags = string.byte(frame, 6)
  if string.sub(frame, 1, 4) ~= '\193HQ\1' or #frame < 28 or flags > 2 then return frame end
  local headers, body = struct.unpack('>H', frame, 7), struct.unpack('>I4', frame, 25)
  local last = 28 + headers + body
  if flags == 2 then return string.sub(frame, 29 + headers, last) end
  return string.sub(frame, 1, last + (flags == 1 and 36 or 0)) .. trail
end

-- LTRIM first, though it trims nothing: at maxmemory a plain RPUSH is refused.
redis.call('LTRIM', KEYS[2], 0, -1)
local moved, bytes = 0, 0
for place = 1, tonumber(ARGV[2]) do
  local frame = ARGV[3 + place]
  if ARGV[1] ~= '' then frame = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)[1] end
  if not frame or bytes >= tonumber(ARGV[3]) then break end
  if redis.call('ZSCORE', KEYS[1], frame) then
    redis.call('RPUSH', KEYS[2], revived(frame))
    redis.call('ZREM', KEYS[1], frame)
    moved = moved + 1
  end
  bytes = bytes + #frame
end
return moved
