-- Takes `cost` units from one token bucket, on Redis' clock. The arithmetic is that of bucket.rs.
--
-- KEYS[1] the bucket   ARGV: units per microsecond, units of one token, units of a full bucket, cost
-- Answers {1, level} when the units were taken, {0, level} when they were not there.
-- A negative cost gives units back that an earlier call took.
--
-- Invariant: a refusal changes nothing, and a bucket that has expired equals a full one.
-- All numbers stay below 2^53, where Lua's doubles are exact integers.
local refill, token, capacity, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local state = redis.call('HMGET', KEYS[1], 'level', 'at', 'token')
local level, at, old = tonumber(state[1]), tonumber(state[2]), tonumber(state[3])
local stepped_back = false
if level and at and old then
  if old ~= token then -- the policy's rate was changed: keep the same number of tokens
    level = math.floor(level / old * token)
  end
  stepped_back = now < at
  level = math.min(capacity, level + math.max(0, now - at) * refill)
else
  level = capacity
end

local admitted = level >= cost
if admitted then
  level = math.min(capacity, level - cost)
end
-- After a backward step of the clock the bucket goes on from the new time, or it would stand still
-- until the clock has caught up.
if admitted or stepped_back then
  redis.call('HSET', KEYS[1], 'level', string.format('%.0f', level), 'at', string.format('%.0f', now), 'token', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil((capacity - level) / refill / 1000) + 1))
end
return {admitted and 1 or 0, level}
