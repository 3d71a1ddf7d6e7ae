-- A sign of life. KEYS: members, seq. ARGV: id, ms until it counts as gone.
-- Returns how many are alive, the number of the last message, and this server's
-- time in ms. Members that claim to be alive for longer than any can are removed.
expect(KEYS[1], 'zset')
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. whole(now + 2 * ARGV[2]), '+inf')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local seq = last_message(KEYS[2])
redis.call('PEXPIRE', KEYS[2], 86400000)
return {redis.call('ZCARD', KEYS[1]), seq, now}
