-- Take frames out of the dead list: back to the tail of the queue, or away.
-- KEYS[1] dead  KEYS[2] waiting
-- ARGV pairs: a frame of the dead list, and what to push for it or '' to drop it
-- returns how many were there and were moved or dropped
local moved = 0
for place = 1, #ARGV, 2 do
  if redis.call('ZREM', KEYS[1], ARGV[place]) == 1 then
    if ARGV[place + 1] ~= '' then redis.call('RPUSH', KEYS[2], ARGV[place + 1]) end
    moved = moved + 1
  end
end
return moved
