-- End an incarnation: acknowledge what is known done, settle the frame after it, release the rest to the head.
-- KEYS[1] waiting  KEYS[2] in flight  KEYS[3] consumers  KEYS[4] claims  KEYS[5] owners  KEYS[6] retired  KEYS[7] dead
-- KEYS[8] counters
-- ARGV[1] incarnation  ARGV[2] claim the caller knows of  ARGV[3] done in that claim
-- ARGV[4] fate of the frame after the done ones: 'release', 'replace' (released as ARGV[5]) or 'bury' (as ARGV[5])
-- ARGV[5] frame or ''  ARGV[6] ms until its list is swept again, or '' if no command of it can be under way
-- ARGV[7] frames and ARGV[8] bytes to release at most in one call
-- ARGV[9] 1 to go on with what a call before has left, else 0
-- returns {1 if the claim was the latest and so done and fate were believed, else 0; number released; number left;
--          the first 28 bytes of up to 20 of those released, newest first}
-- Done and fate of another claim are not believed: its positions mean nothing here, so all of the list is released.
local believed = 0
if redis.call('HGET', KEYS[4], ARGV[1]) == ARGV[2] then
  believed = 1
  redis.call('LTRIM', KEYS[2], ARGV[3], -1)
  if ARGV[3] ~= '0' then redis.call('HINCRBY', KEYS[8], 'done', ARGV[3]) end
  if ARGV[4] == 'replace' then
    if redis.call('LLEN', KEYS[2]) > 0 then redis.call('LSET', KEYS[2], 0, ARGV[5]) end
  elseif ARGV[4] == 'bury' then
    if redis.call('LPOP', KEYS[2]) then
      local now = redis.call('TIME')
      redis.call('ZADD', KEYS[7], now[1] * 1000 + now[2] / 1000, ARGV[5])
    end
  end
end
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('HDEL', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
local held = redis.call('LLEN', KEYS[2])
if believed == 0 and ARGV[9] == '0' and held > 1 then redis.call('HINCRBY', KEYS[8], 'careful', held) end
local released, bytes, heads = 0, 0, {}
while released < tonumber(ARGV[7]) and bytes < tonumber(ARGV[8]) do
  -- Newest first, each to the head: they end up at the head in the order they had.
  local frame = redis.call('LMOVE', KEYS[2], KEYS[1], 'RIGHT', 'LEFT')
  if not frame then break end
  released = released + 1
  bytes = bytes + #frame
  if released <= 20 then heads[released] = string.sub(frame, 1, 28) end
end
local left = held - released
if ARGV[6] ~= '' or left > 0 then
  local now = redis.call('TIME')
  local wait = ARGV[6] ~= '' and ARGV[6] or 0
  redis.call('ZADD', KEYS[6], now[1] * 1000 + math.floor(now[2] / 1000) + wait, ARGV[1])
else
  redis.call('ZREM', KEYS[6], ARGV[1])
end
return { believed, released, left, heads }
