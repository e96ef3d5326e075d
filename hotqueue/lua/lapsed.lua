-- List incarnations whose lease is over by the server's clock, or ends later than a lease can: then that clock has
-- jumped back, and it would seem to be good for as long as the jump.
-- KEYS[1] consumers
-- ARGV[1] longest lease, ms
-- returns pairs: incarnation, end of lease in ms; at most 100 of either kind
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local reply = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms, 'WITHSCORES', 'LIMIT', 0, 100)
local from = '(' .. string.format('%.0f', now_ms + ARGV[1])
for _, each in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], from, '+inf', 'WITHSCORES', 'LIMIT', 0, 100)) do
  reply[#reply + 1] = each
end
return reply
