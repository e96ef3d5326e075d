-- Read the next stretch of the dead list. What others take out of it meanwhile makes it skip nothing.
-- KEYS[1] dead
-- ARGV[1] 'up' (oldest first) or 'down'  ARGV[2] frames and ARGV[3] bytes to return at most (one frame may exceed it)
-- ARGV[4] time of burial to go on from  ARGV[5] frame to go on after, none at first
-- returns pairs: frame, time of burial. Where ARGV[5] is gone it begins with all that were buried at that time.
local up = ARGV[1] == 'up'
local rank = ARGV[5] and redis.call('ZRANK', KEYS[1], ARGV[5])
local place
if rank then
  place = (up and rank or redis.call('ZCARD', KEYS[1]) - 1 - rank) + 1
elseif up then
  place = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[4])
else
  place = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[4], '+inf')
end
local reply, bytes = {}, 0
for from = place, place + ARGV[2] - 1 do
  local index = up and from or -1 - from
  local entry = redis.call('ZRANGE', KEYS[1], index, index, 'WITHSCORES')
  if not entry[1] then break end
  reply[#reply + 1] = entry[1]
  reply[#reply + 1] = entry[2]
  bytes = bytes + #entry[1]
  if bytes >= tonumber(ARGV[3]) then break end
end
return reply
