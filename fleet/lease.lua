-- A share of a rate: slots, each 1/rate after the one before.
-- KEYS: slots, demand, lowest rate. ARGV: id, calls a second, slots wanted, ms to
-- look ahead, ms for which the lowest rate that a process names holds.
-- Returns how many are given, in how many µs the first is, in how many ms there
-- will be more, and the rate that they are of, as text.
local id, want, ahead = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
expect(KEYS[2], 'hash')

-- The lowest rate that was named lately is that of all.
local named = tonumber(ARGV[2])
local rate = number(get(KEYS[3]), 1e-9, named)
if not rate or rate == named then
	rate = named
	redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[5])
end
bound(KEYS[3], tonumber(ARGV[5]))
local text = string.format('%.17g', rate)
if want == 0 then return {0, 0, 0, text} end

local gap = 1000 / rate
local at = t[1] * 1000 + t[2] / 1000 -- with µs
local first = number(get(KEYS[1]), at, at + ahead + 2 * gap + 1000) or at

-- Who wants how much; forgotten every other second, and so without the dead.
local function demand(field) return number(redis.call('HGET', KEYS[2], field), 0, 1e9) or 0 end
local total = math.max(0, demand('total') - demand(id)) + want
redis.call('HSET', KEYS[2], id, want, 'total', whole(total))
bound(KEYS[2], 2000)

local room = 0
if first <= at + ahead then room = math.floor((at + ahead - first) / gap) + 1 end
local given = math.min(want, room, math.max(1, math.ceil(room * want / total)))
local more = math.max(0, first + given * gap - at - ahead)
if given > 0 then
	local keep = math.ceil(first + given * gap - at + 1000)
	redis.call('SET', KEYS[1], string.format('%.3f', first + given * gap), 'PX', keep)
end
return {given, math.floor((first - at) * 1000), math.ceil(more), text}
