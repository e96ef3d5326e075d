-- Look for a frame by its id in one stretch of the dead list, without sending the list.
-- KEYS[1] dead
-- ARGV[1] first place  ARGV[2] places to look at  ARGV[3] the 16 bytes of the id
-- returns {frame, time of burial} if found, {} if not here, false past the end
local found = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1)
if #found == 0 then return false end
for _, frame in ipairs(found) do
  if string.sub(frame, 9, 24) == ARGV[3] then return { frame, redis.call('ZSCORE', KEYS[1], frame) } end
end
return {}
