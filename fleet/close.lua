-- A probe has succeeded. KEYS: reports, episode, seq, position.
-- ARGV: id, the episode that it knows or '-', name, channel, ms that the calls
-- take that waited for it: they go now, and no others; ms that a process waits for
-- its position at most: reported twice, as after a timeout, it is no more.
-- Ends the episode, unless that is another one by now. Returns 0 if publishing was
-- refused.
expect(KEYS[1], 'hash')
expect(KEYS[2], 'hash')
redis.call('HDEL', KEYS[1], ARGV[1])
if tonumber(ARGV[5]) > 0 then
	local first = number(get(KEYS[4]), now, now + 2 * hour) or now -- as in position.lua
	local ends = math.min(math.floor(first) + ARGV[5], now + 2 * ARGV[6])
	redis.call('SET', KEYS[4], whole(ends), 'PX', ends - now)
end
local episode = redis.call('HGET', KEYS[2], 'id')
if not episode or (ARGV[2] ~= '-' and ARGV[2] ~= episode) then return {1} end
redis.call('DEL', KEYS[1], KEYS[2])
if #episode > 64 or not string.match(episode, '^[0-9a-z-]+$') then episode = '-' end
return {publish(KEYS[3], ARGV[4], 'close', ARGV[1], 0, episode, ARGV[3])}
