-- A pause, or, with 0 ms, the question how much of one is left.
-- KEYS: mark, seq. ARGV: ms, ms that do not matter, id, name, channel.
-- Stored and published only if really longer. Returns the ms that are left, and 0
-- if publishing was refused.
get(KEYS[1])
bound(KEYS[1], hour)
local left, ms = math.max(0, redis.call('PTTL', KEYS[1])), tonumber(ARGV[1])
if ms <= left + tonumber(ARGV[2]) then return {left, 1} end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ms)
return {ms, publish(KEYS[2], ARGV[5], 'pause', ARGV[3], ms, '-', ARGV[4])}
