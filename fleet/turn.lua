-- A turn to let calls go that waited for a probe to succeed. KEYS: turn.
-- ARGV: ms that they take, ms to wait at most.
-- Returns in how many ms they may, and -1 if that is too long.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local first = math.floor(tonumber(redis.pcall('GET', KEYS[1]) or 0) or 0)
-- No row of turns is longer than two hours: an open time, and one turn.
if not (first > now and first <= now + 7200000) then first = now end
local ends = first + ARGV[1]
if first - now > tonumber(ARGV[2]) then return {-1} end
if ends > now then redis.call('SET', KEYS[1], string.format('%.0f', ends), 'PX', ends - now) end
return {first - now}
