-- Acknowledge what is done and claim what comes next.
-- KEYS[1] waiting  KEYS[2] in flight  KEYS[3] claims  KEYS[4] counters
-- ARGV[1] incarnation  ARGV[2] claim  ARGV[3] done: frames of that claim to acknowledge
-- ARGV[4] count to take at most  ARGV[5] bytes to take at most (one frame may exceed it)
-- returns false if this is not the incarnation's latest claim, else the next claim number and the frames
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then return false end
redis.call('LTRIM', KEYS[2], ARGV[3], -1)
if ARGV[3] ~= '0' then redis.call('HINCRBY', KEYS[4], 'done', ARGV[3]) end
local count = tonumber(ARGV[4])
if count > 1 then
  -- Messages of which one killed its consumer, nobody knows which, are taken one at a time.
  local careful = tonumber(redis.call('HGET', KEYS[4], 'careful') or 0)
  if careful > 0 then
    count = 1
    redis.call('HINCRBY', KEYS[4], 'careful', -1)
  end
end
local reply = { ARGV[2] + 1 }
redis.call('HSET', KEYS[3], ARGV[1], reply[1])
local bytes = 0
for place = 1, count do
  -- LMOVE, never LPOP and RPUSH: an error between the two would lose what was popped.
  local frame = redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
  if not frame then break end
  reply[place + 1] = frame
  bytes = bytes + #frame
  if bytes >= tonumber(ARGV[5]) then break end
end
return reply
