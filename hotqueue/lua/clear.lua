-- Delete lists and sorted sets; their memory is freed in the background.
-- KEYS the lists and sorted sets
-- returns how many each of them held
local held = {}
for place, key in ipairs(KEYS) do
  local is_list = redis.call('TYPE', key).ok == 'list'
  held[place] = is_list and redis.call('LLEN', key) or redis.call('ZCARD', key)
end
redis.call('UNLINK', unpack(KEYS))
return held
