-- A turn to let calls go that waited for a probe to succeed. KEYS: turn.
-- ARGV: ms that they take, ms to wait at most.
-- Returns in how many ms they may, and -1 if that is too long.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local first = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
local ends = first + tonumber(ARGV[1])
if first - now > tonumber(ARGV[2]) then return {-1} end
if ends > now then redis.call('SET', KEYS[1], string.format('%.0f', ends), 'PX', ends - now) end
return {first - now}
