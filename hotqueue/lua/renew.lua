-- Renew the leases of those of these incarnations that are still registered.
-- KEYS[1] consumers
-- ARGV[1] lease, ms  ARGV[2…] incarnations
-- returns those that are not registered any more
local now = redis.call('TIME')
local until_ms = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[1]
local gone = {}
for place = 2, #ARGV do
  -- ZREM then ZADD: at maxmemory a plain ZADD is refused, even of a member that exists.
  if redis.call('ZREM', KEYS[1], ARGV[place]) == 1 then
    redis.call('ZADD', KEYS[1], until_ms, ARGV[place])
  else
    gone[#gone + 1] = ARGV[place]
  end
end
return gone
