-- What one process reports about a dependency.
-- KEYS: reports, episode, members, seq.
-- ARGV: id, weight (failures in a row, 5 if open, 0 to withdraw the report), ms
-- for which it is valid, '1' if its own breaker is open, quorum, share, ms that do
-- not matter, name, channel, the failures in a row that make a whole vote (fewer
-- make a third of one), ms to open for, ms until a member counts as gone.
-- An episode begins when enough agree, for as long as they do. While it lasts,
-- one failed probe prolongs it, but never two of the same process in a row.
-- Returns the ms that are left of the episode, its id, and 0 if publishing was
-- refused.
local id, weight, ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
expect(KEYS[1], 'hash')
expect(KEYS[2], 'hash')
expect(KEYS[3], 'zset')
local episode = redis.call('HMGET', KEYS[2], 'id', 'until', 'by')
local name, ends, by = episode[1], number(episode[2], 0, now + hour), episode[3]
if name and not (ends and #name <= 64 and string.match(name, '^[0-9a-z-]+$')) then
	redis.call('DEL', KEYS[2]) -- not begun by a member
	name, by = false, false
end
local left = math.max(0, (name and ends or 0) - now)
if weight == 0 then
	redis.call('HDEL', KEYS[1], id)
	return {left, name or '-', 1}
end
redis.call('HSET', KEYS[1], id, string.format('%d:%.0f:%.0f', weight, now + ms, now + ARGV[11]))

local opens, total, votes = {}, 0, 0
local all = redis.call('HGETALL', KEYS[1])
local longest = ms
for i = 1, #all, 2 do
	local w, valid, opening = string.match(all[i + 1], '^(%d+):(%d+):(%d+)$')
	w, valid, opening = number(w, 1, 5), number(valid, now + 1, now + hour), number(opening, 0, now + hour)
	if not (w and valid and opening) then
		redis.call('HDEL', KEYS[1], all[i])
	else
		total = total + w
		if w >= tonumber(ARGV[10]) then votes = votes + 1 else votes = votes + 1 / 3 end
		table.insert(opens, opening - now)
		longest = math.max(longest, valid - now)
	end
end
redis.call('PEXPIRE', KEYS[1], longest)

local quorum = tonumber(ARGV[5])
local alive = redis.call('ZCOUNT', KEYS[3], now, now + 2 * ARGV[12])
local needed = math.max(quorum, math.ceil(alive * tonumber(ARGV[6])))
local open, prolonged = 0, '-'
if votes >= needed and total >= 5 * math.min(quorum, 2) then
	table.sort(opens, function(a, b) return a > b end)
	open = opens[needed]
end
if ARGV[4] == '1' and name and by ~= id and ms > open then
	open, prolonged = ms, id
end
if open <= left + tonumber(ARGV[7]) then return {left, name or '-', 1} end
name = name or (whole(now) .. '-' .. id)
redis.call('HSET', KEYS[2], 'id', name, 'until', whole(now + open), 'by', prolonged)
redis.call('PEXPIRE', KEYS[2], open + 60000)
return {open, name, publish(KEYS[4], ARGV[9], 'open', id, open, name, ARGV[8])}
