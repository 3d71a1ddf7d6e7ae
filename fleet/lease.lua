-- A share of a rate: turns, each 1/rate after the one before, whoever has them.
-- KEYS: turns, demand. ARGV: id, calls a second, turns wanted, ms to look ahead.
-- Returns how many are given, in how many µs the first is, and in how many ms
-- there will be more.
local id, gap = ARGV[1], 1000 / tonumber(ARGV[2])
local want, ahead = tonumber(ARGV[3]), tonumber(ARGV[4])
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local first = tonumber(redis.pcall('GET', KEYS[1]) or 0) or 0
if not (first >= now and first <= now + ahead + 2 * gap + 1000) then first = now end

-- Who wants how much; forgotten every other second, and so without the dead.
local before = redis.call('HGET', KEYS[2], id) or 0
redis.call('HSET', KEYS[2], id, want)
local total = redis.call('HINCRBY', KEYS[2], 'total', want - before)
if total <= want then redis.call('PEXPIRE', KEYS[2], 2000) end

local room = 0
if first <= now + ahead then room = math.floor((now + ahead - first) / gap) + 1 end
local given = math.min(want, room, math.max(1, math.ceil(room * want / math.max(total, want))))
local more = math.max(0, first + given * gap - now - ahead)
if given > 0 then
	local keep = math.ceil(first + given * gap - now + 1000)
	redis.call('SET', KEYS[1], string.format('%.3f', first + given * gap), 'PX', keep)
end
return {given, math.floor((first - now) * 1000), math.ceil(more)}
