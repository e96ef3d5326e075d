-- Ask whether the user of this connection may run a command, without running it.
-- ARGV the command
-- returns 1 or 0, false where the server cannot say (before Redis 7)
if not redis.acl_check_cmd then return false end
return redis.acl_check_cmd(unpack(ARGV)) and 1 or 0
