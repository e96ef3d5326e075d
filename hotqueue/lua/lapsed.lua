-- List incarnations whose lease is over by the server's clock.
-- KEYS[1] consumers
-- returns at most 100 pairs: incarnation, end of lease in ms
local now = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now[1] * 1000 + math.floor(now[2] / 1000), 'WITHSCORES', 'LIMIT', 0, 100)
