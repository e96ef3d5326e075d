-- Look for a frame by its id in one stretch of the dead list, newest first, without sending the list.
-- KEYS[1] dead
-- ARGV[1] first place, counted from the newest  ARGV[2] places and ARGV[3] bytes to look at at most
-- ARGV[4] the 16 bytes of the id
-- returns {frame, time of burial} if it is there, else the place to go on from, false past the end
local bytes = 0
for place = tonumber(ARGV[1]), ARGV[1] + ARGV[2] - 1 do
  local entry = redis.call('ZRANGE', KEYS[1], -1 - place, -1 - place, 'WITHSCORES')
  if not entry[1] then return false end
  if string.sub(entry[1], 9, 24) == ARGV[4] then return entry end
  bytes = bytes + #entry[1]
  if bytes >= tonumber(ARGV[3]) then return place + 1 end
end
return ARGV[1] + ARGV[2]
