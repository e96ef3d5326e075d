-- Count what a queue holds; bounded work, whatever its length.
-- KEYS[1] waiting  KEYS[2] delayed  KEYS[3] dead  KEYS[4] consumers  KEYS[5] counters  KEYS[6] retired  KEYS[7] paused
-- returns {waiting, delayed, dead, done so far, ms until a pause ends (-1 no end, -2 not paused),
--          the first 28 bytes of the oldest waiting, server time in ms, consumers, retired incarnations,
--          dead messages deleted by a limit so far}
local now = redis.call('TIME')
-- All of the head is read for its first bytes: Redis cannot read a part of an element of a list.
local head = redis.call('LINDEX', KEYS[1], 0)
return {
  redis.call('LLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]),
  tonumber(redis.call('HGET', KEYS[5], 'done') or 0), redis.call('PTTL', KEYS[7]),
  head and string.sub(head, 1, 28) or '', now[1] * 1000 + math.floor(now[2] / 1000),
  redis.call('ZRANGE', KEYS[4], 0, -1), redis.call('ZRANGE', KEYS[6], 0, -1),
  tonumber(redis.call('HGET', KEYS[5], 'trimmed') or 0),
}
