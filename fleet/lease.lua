-- A share of a rate: slots, each 1/rate after the one before.
-- KEYS: slots, demand, lowest rate. ARGV: id, calls a second, slots wanted, ms to
-- look ahead, ms for which the lowest rate that a process names holds.
-- Returns how many are given, in how many µs the first is, in how many ms there
-- will be more, and the rate that they are of, as text.
local id, want, ahead = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
expect(KEYS[1], 'string')
expect(KEYS[2], 'hash')
expect(KEYS[3], 'string')

-- The lowest rate that was named lately is that of all.
local rate = number(redis.call('GET', KEYS[3]), 0, tonumber(ARGV[2]))
if not rate or rate <= 0 or rate == tonumber(ARGV[2]) then
	rate = tonumber(ARGV[2])
	redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[5])
end
local answer_rate = redis.call('GET', KEYS[3])
if want == 0 then return {0, 0, 0, answer_rate} end

local gap = 1000 / rate
local at = t[1] * 1000 + t[2] / 1000 -- with µs
local first = number(redis.call('GET', KEYS[1]), at, at + ahead + 2 * gap + 1000) or at

-- Who wants how much; forgotten every other second, and so without the dead.
local function demand(field) return number(redis.call('HGET', KEYS[2], field), 0, 1e9) or 0 end
local total = math.max(0, demand('total') - demand(id)) + want
redis.call('HSET', KEYS[2], id, want, 'total', whole(total))
if total <= want then redis.call('PEXPIRE', KEYS[2], 2000) end

local room = 0
if first <= at + ahead then room = math.floor((at + ahead - first) / gap) + 1 end
local given = math.min(want, room, math.max(1, math.ceil(room * want / total)))
local more = math.max(0, first + given * gap - at - ahead)
if given > 0 then
	local keep = math.ceil(first + given * gap - at + 1000)
	redis.call('SET', KEYS[1], string.format('%.3f', first + given * gap), 'PX', keep)
end
return {given, math.floor((first - at) * 1000), math.ceil(more), answer_rate}
