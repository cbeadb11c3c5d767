-- One token bucket and the leases that gateways hold on it, on Redis' clock. renewal.rs
-- lists its arguments; tests/model.rs is the same script in Rust.
--
-- KEYS[1] the bucket
-- ARGV    1 units per microsecond  2 units of a token  3 units of a full bucket
--         4 id of the lease to settle ('' for none)  5 its tokens that are still unspent
--         6 tokens wanted (0 hands back)  7 the fewest that are of use  8 tokens needed now, granted if
--         available  9 of these, tokens spent at once  10 beyond those needed now, at most one part in
--         this many of the available tokens is granted
--         11 id of the new lease  12 its lifetime in microseconds
--         13 tokens admitted without Redis  14 units to assume for a bucket that does not exist here
-- Returns {tokens granted, level afterwards in units, unspent tokens of the settled lease that count}.
-- A call that wants no tokens hands the unspent ones back. Otherwise they move to the new lease.
--
-- Invariant: level + all tokens on lease <= a full bucket, so that every window of t seconds admits
-- at most burst + rate*t, whenever the leases are spent. A refusal changes nothing. An expired bucket
-- equals a full one without leases. All numbers stay below 2^53, where doubles are exact.
local refill, token, capacity = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local settled, kept = ARGV[4], tonumber(ARGV[5])
local want, least, must, spent = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local parts, lease, lifetime = tonumber(ARGV[10]), ARGV[11], tonumber(ARGV[12])
local debt, unknown = tonumber(ARGV[13]), tonumber(ARGV[14])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local state = redis.call('HMGET', KEYS[1], 'level', 'at', 'token', 'leases')
local level, at, old = tonumber(state[1]), tonumber(state[2]), tonumber(state[3])
local leases, on_lease, held, changed = {}, 0, 0, false
local function room() return math.max(0, capacity - on_lease * token) end
if level and at and old then
  if old ~= token then -- the policy's rate was changed: keep the same number of tokens
    level = math.floor(level / old * token)
    changed = true
  end
  for id, expires, tokens in string.gmatch(state[4] or '', '(%x+) (%d+) (%d+);') do
    -- No lease lives for ten seconds. The cap ends it even after the clock was set back.
    leases[#leases + 1] = {id = id, expires = math.min(tonumber(expires), now + 10000000), tokens = tonumber(tokens)}
    on_lease = on_lease + tonumber(tokens)
  end
  table.sort(leases, function(a, b) return a.expires < b.expires end)
  -- Each lease that expires makes room for more refill.
  local from, running = math.min(at, now), {}
  for _, one in ipairs(leases) do
    if one.expires <= now then
      level = math.min(room(), level + math.max(0, one.expires - from) * refill)
      from = math.max(from, one.expires)
      on_lease = on_lease - one.tokens
      changed = true
    else
      running[#running + 1] = one
    end
  end
  level = math.min(room(), level + (now - from) * refill)
  leases = {}
  for _, one in ipairs(running) do
    if one.id == settled then
      held = math.min(kept, one.tokens)
      on_lease = on_lease - one.tokens
      changed = true
    else
      leases[#leases + 1] = one
    end
  end
  -- After the clock was set back, the bucket continues from the new time. Otherwise it would not refill
  -- until the clock had caught up.
  changed = changed or now < at
else
  level = math.min(capacity, unknown)
  changed = level < capacity
end
if debt > 0 then
  level = math.max(0, level - debt * token)
  changed = true
end

local granted = 0
if want == 0 then
  level = math.min(room(), level + held * token)
else
  local there = math.floor(level / token)
  if there >= least then
    -- Only a part of the available tokens, so that other gateways get some; but all that waiting
    -- requests need.
    granted = math.min(there, math.max(must, math.min(want, math.max(least, math.floor(there / parts)))))
    level = level - granted * token
    changed = changed or granted > 0
  end
  local leased = held + granted - math.min(spent, granted)
  if leased > 0 then
    leases[#leases + 1] = {id = lease, expires = now + lifetime, tokens = leased}
  end
end

if changed then
  local text, last = {}, now
  for _, one in ipairs(leases) do
    last = math.max(last, one.expires)
    text[#text + 1] = string.format('%s %.0f %.0f;', one.id, one.expires, one.tokens)
  end
  redis.call('HSET', KEYS[1], 'level', string.format('%.0f', level), 'at', string.format('%.0f', now), 'token', ARGV[2], 'leases', table.concat(text))
  -- A bucket with a running lease is not full, even if its level looks like it.
  local full_in = last - now + (capacity - level) / refill
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil(full_in / 1000) + 1))
end
return {granted, level, held}
