-- A probe has succeeded. KEYS: findings, episode, seq.
-- ARGV: id, the episode that it knows or '-', name, channel.
-- Ends the episode, unless that is another one by now.
redis.call('HDEL', KEYS[1], ARGV[1])
local episode = redis.call('HGET', KEYS[2], 'id')
if not episode or (ARGV[2] ~= '-' and ARGV[2] ~= episode) then return {0} end
redis.call('DEL', KEYS[1], KEYS[2])
local seq = redis.call('INCR', KEYS[3])
redis.call('PUBLISH', ARGV[4], table.concat({1, seq, 'close', ARGV[1], 0, episode, ARGV[3]}, ' '))
return {1}
