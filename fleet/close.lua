-- A probe has succeeded. KEYS: findings, episode, seq, turn.
-- ARGV: id, the episode that it knows or '-', name, channel, ms that the calls
-- take that waited for it: they go now, and it is nobody else's turn; ms that
-- somebody waits for a turn at most: said twice, as after a timeout, it is no more.
-- Ends the episode, unless that is another one by now.
redis.call('HDEL', KEYS[1], ARGV[1])
if tonumber(ARGV[5]) > 0 then
	local t = redis.call('TIME')
	local now = t[1] * 1000 + math.floor(t[2] / 1000)
	local first = math.floor(tonumber(redis.pcall('GET', KEYS[4]) or 0) or 0)
	if not (first > now and first <= now + 7200000) then first = now end -- as in turn.lua
	local ends = math.min(first + ARGV[5], now + 2 * ARGV[6])
	redis.call('SET', KEYS[4], string.format('%.0f', ends), 'PX', ends - now)
end
local episode = redis.call('HGET', KEYS[2], 'id')
if not episode or (ARGV[2] ~= '-' and ARGV[2] ~= episode) then return {0} end
redis.call('DEL', KEYS[1], KEYS[2])
local seq = redis.call('INCR', KEYS[3])
redis.call('PUBLISH', ARGV[4], table.concat({1, seq, 'close', ARGV[1], 0, episode, ARGV[3]}, ' '))
return {1}
