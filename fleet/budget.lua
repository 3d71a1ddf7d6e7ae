-- A retry from what the fleet has saved up. KEYS: saved.
-- ARGV: burst, ms in which one more accrues.
-- Stored is when there will be burst of them: a time in ms, one accrual per retry
-- ahead. Returns 1 or 0 retries, and in how many ms to ask again at the earliest.
expect(KEYS[1], 'string')
local burst, every = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = number(redis.call('GET', KEYS[1]), now, now + burst * every) or now
local wait = full + every - burst * every - now
if wait > 0 then return {0, math.ceil(wait)} end
redis.call('SET', KEYS[1], whole(full + every), 'PX', math.ceil(full + every - now))
return {1, math.max(0, math.ceil(wait + every))}
