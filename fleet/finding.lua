-- What one process found about a dependency.
-- KEYS: findings, episode, members, seq.
-- ARGV: id, weight (failures in a row, 5 if open, 0 to take it back), ms that it
-- holds, '1' if its own breaker is open, quorum, share, ms that do not matter,
-- name, channel, the failures in a row that make a whole voice (fewer make a
-- third of one), ms to open for.
-- An episode begins when enough agree, for as long as they do. While it lasts,
-- one failed probe prolongs it, but never two of the same process in a row.
-- Returns the ms that are left of the episode, and its id.
local id, weight, ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local episode = redis.call('HMGET', KEYS[2], 'id', 'until', 'by')
local left = math.max(0, (tonumber(episode[2]) or 0) - now)
if weight == 0 then
	redis.call('HDEL', KEYS[1], id)
	return {left, episode[1] or '-'}
end
local lasts = now + tonumber(ARGV[11])
redis.call('HSET', KEYS[1], id, string.format('%d:%.0f:%.0f', weight, now + ms, lasts))

local agreed, total, voices = {}, 0, 0
local all = redis.call('HGETALL', KEYS[1])
local longest = ms
for i = 1, #all, 2 do
	local w, ends, opens = string.match(all[i + 1], '^(%d+):(%d+):(%d+)$')
	local holds = (tonumber(ends) or 0) - now
	if holds <= 0 then
		redis.call('HDEL', KEYS[1], all[i])
	else
		w = tonumber(w)
		total = total + w
		if w >= tonumber(ARGV[10]) then voices = voices + 1 else voices = voices + 1 / 3 end
		table.insert(agreed, tonumber(opens) - now)
		longest = math.max(longest, holds)
	end
end
redis.call('PEXPIRE', KEYS[1], longest)

local quorum = tonumber(ARGV[5])
local alive = redis.call('ZCOUNT', KEYS[3], now, '+inf')
local needed = math.max(quorum, math.ceil(alive * tonumber(ARGV[6])))
local open, by = 0, '-'
if voices >= needed and total >= 5 * math.min(quorum, 2) then
	table.sort(agreed, function(a, b) return a > b end)
	open = agreed[needed]
end
if ARGV[4] == '1' and episode[1] and episode[3] ~= id and ms > open then
	open, by = ms, id
end
if open <= left + tonumber(ARGV[7]) then return {left, episode[1] or '-'} end
local name = episode[1] or (string.format('%.0f', now) .. '-' .. id)
redis.call('HSET', KEYS[2], 'id', name, 'until', string.format('%.0f', now + open), 'by', by)
redis.call('PEXPIRE', KEYS[2], open + 60000)
local seq = redis.call('INCR', KEYS[4])
redis.call('PUBLISH', ARGV[9], table.concat({1, seq, 'open', id, string.format('%.0f', open), name, ARGV[8]}, ' '))
return {open, name}
