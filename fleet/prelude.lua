-- What all scripts begin with. The last of ARGV is when the caller gives up
-- waiting, in ms of this server's clock, or 0 in a beat, which asks for it. A
-- command that runs later, because the server hung, would work with durations that
-- are out of date: its caller repeats it.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local gives_up = tonumber(ARGV[#ARGV])
if gives_up > 0 and now > gives_up then
	return redis.error_reply('LATE the caller has given up')
end

local hour = 3600000 -- no pause and no open time is longer

-- Removes what other software has written to a key of the fleet's.
local function expect(key, kind)
	local found = redis.call('TYPE', key)['ok']
	if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end

-- The text under a key, if a member can have set it: it then has a time to end.
local function get(key)
	expect(key, 'string')
	if redis.call('PTTL', key) == -1 then redis.call('DEL', key) end
	return redis.call('GET', key)
end

-- The text as a number, if it is one within these limits.
local function number(text, least, most)
	local n = tonumber(text or '')
	if n and n >= least and n <= most then return n end
end

-- Removes a key of the fleet's in so many ms at the latest.
local function bound(key, ms)
	local left = redis.call('PTTL', key)
	if left == -1 or left > ms then redis.call('PEXPIRE', key, ms) end
end

local function whole(n) return string.format('%.0f', n) end

-- The number of the last message; what is none is removed.
local function last_message(key)
	expect(key, 'string')
	local seq = redis.call('GET', key)
	if seq and (#seq > 15 or not string.match(seq, '^%d+$')) then
		redis.call('DEL', key)
		seq = nil
	end
	return tonumber(seq or 0)
end

-- Publishes a message. A user who may not is not without effect: the others see
-- by the number that there was a message, and ask. Returns 1, or 0 if refused.
local function publish(key, channel, kind, from, left, episode, name)
	last_message(key)
	local seq = redis.call('INCR', key)
	local answer = redis.pcall('PUBLISH', channel, table.concat({2, whole(seq), kind, from, whole(left), episode, name, whole(now)}, ' '))
	if type(answer) == 'table' and answer.err then return 0 end
	return 1
end
