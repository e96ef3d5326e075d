-- Add up the lengths of lists.
-- KEYS the lists
-- returns the sum
local sum = 0
for _, key in ipairs(KEYS) do sum = sum + redis.call('LLEN', key) end
return sum
