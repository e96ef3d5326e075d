-- Accept one message: now, later, at the head, at most once per key, or only while there is room.
-- KEYS[1] waiting  KEYS[2] delayed  KEYS[3] unique
-- ARGV[1] frame  ARGV[2] its id  ARGV[3] 'tail', 'head', 'in' or 'at'  ARGV[4] ms from now, or since 1970
-- ARGV[5] ms for which KEYS[3] stays taken, or ''  ARGV[6] waiting and delayed messages at most, or ''
-- ARGV[7] 1 if the caller waits until what it wrote is on disk, else 0
-- returns {1, id} if accepted, {0, id of the first} if the key is taken, {-1, length} if there is no room
-- The key comes first: who repeats a send that was accepted must hear so, even if the queue is full by now.
local first = ARGV[5] ~= '' and redis.call('GET', KEYS[3])
if first then
  -- The message may not be on disk yet. Redis waits for what this connection wrote, so it must write something.
  if ARGV[7] == '1' then redis.call('SET', KEYS[3], first, 'KEEPTTL') end
  return { 0, first }
end
if ARGV[6] ~= '' then
  local length = redis.call('LLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])
  if length >= tonumber(ARGV[6]) then return { -1, length } end
end
local due = 0
if ARGV[3] == 'in' or ARGV[3] == 'at' then
  local now = redis.call('TIME')
  local now_ms = now[1] * 1000 + now[2] / 1000
  -- With its microseconds: never early, and what came first is due first.
  due = ARGV[4] + (ARGV[3] == 'in' and now_ms or 0)
  if due <= now_ms then due = 0 end
end
if due > 0 then
  redis.call('ZADD', KEYS[2], due, ARGV[1])
elseif ARGV[3] == 'head' then
  redis.call('LPUSH', KEYS[1], ARGV[1])
else
  redis.call('RPUSH', KEYS[1], ARGV[1])
end
-- The key last: if the push is refused, it is not taken either.
if ARGV[5] ~= '' then redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[5]) end
return { 1, ARGV[2] }
