-- List retired incarnations whose list is due to be swept once more.
-- KEYS[1] retired
-- returns at most 16 of them
local now = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now[1] * 1000 + math.floor(now[2] / 1000), 'LIMIT', 0, 16)
