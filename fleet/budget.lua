-- A retry from what the fleet has saved up. KEYS: saved.
-- ARGV: burst, ms in which one more accrues.
-- Stored is when there will be burst of them: a time in ms, one accrual per retry
-- ahead. Where processes name different bursts, or another clock set it, it counts
-- as empty at most. Returns 1 or 0 retries, and in how many ms there is another.
local burst, every = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.min(number(get(KEYS[1]), now, math.huge) or now, now + burst * every)
local wait = full - now - (burst - 1) * every
if wait > 0 then return {0, math.ceil(wait)} end
redis.call('SET', KEYS[1], whole(full + every), 'PX', whole(full + every - now))
return {1, math.max(0, math.ceil(wait + every))}
