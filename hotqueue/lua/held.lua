-- Say what lists hold, until enough bytes were looked at.
-- KEYS the lists
-- ARGV[1] bytes to look at at most (one frame may exceed it)
-- returns for each list, maybe not for all: its length, and the first 28 bytes of its first frame
local reply, bytes = {}, 0
for place = 1, #KEYS do
  local first = redis.call('LINDEX', KEYS[place], 0) or ''
  reply[#reply + 1] = redis.call('LLEN', KEYS[place])
  reply[#reply + 1] = string.sub(first, 1, 28)
  bytes = bytes + #first
  if bytes >= tonumber(ARGV[1]) then break end
end
return reply
