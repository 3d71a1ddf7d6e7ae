-- Pauses, or, with 0 ms, the question how much of them is left. There are two of a
-- name: that which a process set by itself, and that of a refusal, which yields to
-- evidence. KEYS: pause, refusal, seq. ARGV: ms of each, ms that do not matter of
-- each, id, name, channel.
-- Stored and published only if really longer. Returns the ms that are left of each,
-- and 0 if publishing was refused.
local left, published = {}, 1
for i, kind in ipairs({'pause', 'refused'}) do
	get(KEYS[i])
	bound(KEYS[i], hour)
	local ms = tonumber(ARGV[i])
	left[i] = math.max(0, redis.call('PTTL', KEYS[i]))
	if ms > left[i] + tonumber(ARGV[2 + i]) then
		redis.call('SET', KEYS[i], ARGV[5], 'PX', ms)
		left[i] = ms
		published = math.min(published, publish(KEYS[3], ARGV[7], kind, ARGV[5], ms, '-', ARGV[6]))
	end
end
return {left[1], left[2], published}
