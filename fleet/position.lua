-- A position in the queue of those that let calls go that waited for a probe to
-- succeed. KEYS: position. ARGV: ms that they take, ms to wait at most.
-- Returns in how many ms they may, and -1 if that is too long.
-- No queue is longer than two hours: an open time, and one position.
local first = math.floor(number(get(KEYS[1]), now, now + 2 * hour) or now)
local ends = first + ARGV[1]
if first - now > tonumber(ARGV[2]) then return {-1} end
if ends > now then redis.call('SET', KEYS[1], whole(ends), 'PX', ends - now) end
return {first - now}
