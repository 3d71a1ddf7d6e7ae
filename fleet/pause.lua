-- A pause, or, with 0 ms, the question how much of one is left.
-- KEYS: mark, seq. ARGV: ms, ms that do not matter, id, name, channel.
-- Kept and told only if really longer. Returns the ms that are left.
local left = math.max(0, redis.call('PTTL', KEYS[1]))
local ms = tonumber(ARGV[1])
if ms <= left + tonumber(ARGV[2]) then return {left} end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ms)
local seq = redis.call('INCR', KEYS[2])
redis.call('PUBLISH', ARGV[5], table.concat({1, seq, 'pause', ARGV[3], ms, '-', ARGV[4]}, ' '))
return {ms}
