-- Read frames of a list without taking them, their bodies cut short.
-- KEYS[1] list
-- ARGV[1] first place  ARGV[2] frames and ARGV[3] bytes to look at at most (one frame may exceed it)
-- ARGV[4] bytes of a body to return at most
-- returns pairs: frame with its body cut, size of its body
local most = tonumber(ARGV[4])

local function cut(frame)
  if string.sub(frame, 1, 3) ~= '\193HQ' or #frame < 28 then return string.sub(frame, 1, most), #frame end
  local headers, body = struct.unpack('>H', frame, 7), struct.unpack('>I4', frame, 25)
  local behind = 29 + headers + body
  if behind > #frame + 1 then return string.sub(frame, 1, 28 + headers + most), #frame end
  if body <= most then return frame, body end
  return string.sub(frame, 1, 24) .. struct.pack('>I4', most) .. string.sub(frame, 29, 28 + headers + most)
    .. string.sub(frame, behind), body
end

local reply, bytes = {}, 0
for place = tonumber(ARGV[1]), ARGV[1] + ARGV[2] - 1 do
  local frame = redis.call('LINDEX', KEYS[1], place)
  if not frame then break end
  reply[#reply + 1], reply[#reply + 2] = cut(frame)
  bytes = bytes + #frame
  if bytes >= tonumber(ARGV[3]) then break end
end
return reply
