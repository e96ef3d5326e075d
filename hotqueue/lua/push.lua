-- Put messages at the tail, all of them or, where there is no room for all, none.
-- KEYS[1] waiting  KEYS[2] delayed
-- ARGV[1] waiting and delayed messages at most  ARGV[2…] frames
-- returns {1, length} or {-1, length} if there is no room; length counts the waiting and the delayed
local length = redis.call('LLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])
if length + #ARGV - 1 > tonumber(ARGV[1]) then return { -1, length } end
for place = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[place]) end
return { 1, length + #ARGV - 1 }
