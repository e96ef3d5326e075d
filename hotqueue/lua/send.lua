-- Accept one message: now, later, at the head, at most once per key, or only while there is room.
-- KEYS[1] waiting  KEYS[2] delayed  KEYS[3] unique
-- ARGV[1] frame  ARGV[2] its id  ARGV[3] 'tail', 'head', 'in' or 'at'  ARGV[4] ms from now, or since 1970
-- ARGV[5] ms for which KEYS[3] stays taken, or ''  ARGV[6] waiting and delayed messages at most, or ''
-- returns {1, id} if accepted, {0, id of the first} if the key is taken, {-1, length} if there is no room
if ARGV[6] ~= '' then
  local length = redis.call('LLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])
  if length >= tonumber(ARGV[6]) then return { -1, length } end
end
if ARGV[5] ~= '' and not redis.call('SET', KEYS[3], ARGV[2], 'NX', 'PX', ARGV[5]) then
  return { 0, redis.call('GET', KEYS[3]) }
end
if ARGV[3] == 'tail' then
  redis.call('RPUSH', KEYS[1], ARGV[1])
elseif ARGV[3] == 'head' then
  redis.call('LPUSH', KEYS[1], ARGV[1])
else
  local due = ARGV[4]
  if ARGV[3] == 'in' then
    local now = redis.call('TIME')
    due = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[4]
  end
  redis.call('ZADD', KEYS[2], due, ARGV[1])
end
return { 1, ARGV[2] }
