-- What all scripts share: the state of one connection and model family, brought up to now.
--
-- KEYS[1] limits:{connection}            hash, for all models: blocked_until (Retry-After), fails, trips, open_until (breaker),
--                                        live_at, live_wait_until, turn_at, batch, batch_at (batch calls in flight, and when that was said)
-- KEYS[2] limits:{connection}:of:family  hash, for a family:
--                                        at; kept_at (when it was last said how long the state is kept); levels r t i o (requests, tokens, input, output; below zero: debt);
--                                        set_r, set_t as configured (0: not), limit_r .. limit_o learned, per minute; factor, factor_at (share of the limit in use after a 429);
--                                        cut_at, cut_until, strikes; low_until;
--                                        if only 429s tell: resting (1: since a 429), resumed_at; taken, ran (calls, seconds since then), grown (seconds of them in which all was used);
--                                        epoch_taken, epoch_seconds (the same from the return before to the last), late_taken, late_seconds (of its end, if the rate had grown far); missed (returns that were too early), probe, hold_until;
--                                        seen (starts, decaying); first, first_at, ok (slow start); share (batches' minimum, in seconds of the rate);
--                                        ratio (produced of estimated output); live_at, live_wait_until; waiting_for
-- KEYS[3] limits:{connection}:live       hash: process -> "live calls in flight|until when that holds"
-- KEYS[4] limits:{connection}:families   set: the families with a hash
-- ARGV[1] the time in seconds for tests, '' for the server's
-- ARGV[2] requests, ARGV[3] tokens per minute, ARGV[4] concurrency as configured, '' for none; ARGV[2] 'as before': as set_r, set_t say
-- ARGV[5] '1' if output counts as it is produced
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local produced_counts = ARGV[5] == '1'
local KINDS = {'r', 't', 'i', 'o'}
local WORDS = {r = 'requests per minute', t = 'tokens per minute', i = 'input tokens per minute', o = 'output tokens per minute'}
local NAMES = {r = 'requests', t = 'tokens', i = 'input_tokens', o = 'output_tokens'}

-- The fields of a hash as numbers, twice: to work on, and as they are stored.
local function read(key)
  local flat, found, stored = redis.call('HGETALL', key), {}, {}
  for n = 1, #flat, 2 do
    local value = tonumber(flat[n + 1])
    found[flat[n]], stored[flat[n]] = value, value
  end
  return found, stored
end

-- Most fields stay as they are from call to call, and each one written costs more than all the arithmetic.
local function write(key, values, stored, extra)
  local flat = extra or {}
  for field, value in pairs(values) do
    if value ~= stored[field] then
      flat[#flat + 1] = field
      flat[#flat + 1] = string.format('%.6f', value)
    end
  end
  if #flat > 0 then redis.call('HSET', key, unpack(flat)) end
end

local connection, stored_connection = read(KEYS[1])
local family, stored_family = read(KEYS[2])

local most_in_flight = tonumber(ARGV[4])
if ARGV[2] ~= 'as before' then
  family.set_r, family.set_t = tonumber(ARGV[2]) or 0, tonumber(ARGV[3]) or 0
end
local configured = {}
if (family.set_r or 0) > 0 then configured.r = family.set_r end
if (family.set_t or 0) > 0 then configured.t = family.set_t end

local limits, known = {}, false
local function find_limits()
  limits, known = {}, false
  for _, kind in ipairs(KINDS) do
    local limit, learned = configured[kind], family['limit_' .. kind]
    if learned and (not limit or learned < limit) then limit = learned end
    limits[kind] = limit
    known = known or limit ~= nil
  end
end
find_limits()

local function factor()
  return math.min(1, (family.factor or 1) + math.max(0, now - (family.factor_at or now)) * CLIMB_PER_SECOND)
end

-- A provider that names no limit is known by its 429s. Between two moments at which it had nothing left (a return after
-- a rest, and the next) it took on what it allows: calls started, less those refused, over the time, is its rate.
-- Returns requests per second, and for how long they were measured.
local function ceiling()
  local most, seconds = family.epoch_taken / family.epoch_seconds, family.sure_seconds
  if family.late_seconds > 0 and family.late_taken / family.late_seconds > most then
    most, seconds = family.late_taken / family.late_seconds, family.lately_seconds
  end
  return math.max(1 / 60, most), seconds
end

-- The share of the ceiling to try now: from a little below to it, long near it, then beyond, ever faster. How long it
-- takes follows how long the ceiling was measured. Second: whether it is so far beyond that the ceiling is refuted.
local function share_of_ceiling()
  local most, seconds = ceiling()
  local steady = math.min(math.max(STEADY_SECONDS, STEADY_CALLS / most), seconds)
  -- A provider that counts by the minute was returned to late, so that the ceiling is too low.
  if family.missed > 1 then steady = math.min(steady, math.max(LATE_STEADY_SECONDS, STEADY_CALLS / most)) end
  local at = math.min(100, family.grown / steady - 1)
  return 1 + DIP * at ^ 3, at > REFUTED_AT
end

local rates, capacities = {}, {}
local function find_rates()
  rates, capacities = {}, {}
  local share = factor() * PACE / 60
  for _, kind in ipairs(KINDS) do
    if limits[kind] then rates[kind] = limits[kind] * share end
  end
  if not known and family.epoch_seconds then rates.r = ceiling() * share_of_ceiling() end
  for kind, rate in pairs(rates) do
    capacities[kind] = rate * BURST_SECONDS
    if kind == 'r' then capacities.r = math.max(1, capacities.r) end
  end
end
find_rates()

-- A bucket that is new starts almost empty: perhaps the state was lost, and the last minute is used up.
local function first_level(kind)
  if kind == 'r' then return 1 end
  return capacities[kind]
end

local elapsed = math.max(0, now - (family.at or now))
local resting = (family.resting or 0) > 0
local before = family.r
for _, kind in ipairs(KINDS) do
  if rates[kind] then
    family[kind] = math.min(capacities[kind], (family[kind] or first_level(kind)) + rates[kind] * elapsed)
  end
end
if resting then
  family.ran = family.ran + elapsed
elseif not known and family.epoch_seconds and before then
  -- Time in which nobody asked for more proves nothing.
  family.ran = family.ran + (family.r - before) / rates.r
  if family.r < capacities.r then family.grown = family.grown + elapsed end
end
family.share = math.min(SHARE_SAVED_SECONDS, (family.share or 0) + BATCH_SHARE * elapsed)
family.seen = (family.seen or 0) * math.exp(-elapsed / SEEN_SECONDS)
if not known then
  family.first_at = family.first_at or now
  family.first = math.max(family.first or FIRST_CALLS, math.min(FIRST_CALLS, (family.first or FIRST_CALLS) + FIRST_CALLS_PER_SECOND * elapsed))
end
family.at = now

local function slow_start()
  return not known and not family.ran and (family.ok or 0) < FREE_AFTER
end

-- What a call takes from each bucket: at most a minute's limit, for a provider takes on nothing larger, and one row that
-- asks for too much must not hold up the others for hours.
local function costs(input, output)
  local expected = output
  if produced_counts then expected = output * (family.ratio or FIRST_OUTPUT_RATIO) end
  local cost = {r = 1, t = input + expected, i = input, o = expected}
  for kind, limit in pairs(limits) do cost[kind] = math.min(cost[kind], math.max(1, limit)) end
  return cost
end

local function started(calls)
  family.seen = family.seen + calls
  if family.first then family.first = family.first - calls end
  family.taken = (family.taken or 0) + calls
  if (family.probe or 0) > 0 and calls > 0 then family.probe, family.hold_until = 0, now + PROBE_SECONDS end
end

local function charge(cost)
  for kind in pairs(rates) do family[kind] = family[kind] - cost[kind] end
  started(1)
end

-- Seconds until every bucket has what the call takes, at most its capacity, with `allowance` seconds of debt; and for what.
-- A call that is larger than a full bucket may start when it is full, and leaves it in debt.
local function shortage(cost, allowance)
  local longest, kind_of = 0, nil
  for kind, rate in pairs(rates) do
    local borrow = rate * allowance
    if kind == 'r' and allowance > 0 then borrow = math.max(1, borrow) end
    local missing = math.min(cost[kind], capacities[kind]) - borrow - family[kind]
    if missing > 0.000001 and missing / rate > longest then longest, kind_of = missing / rate, kind end
  end
  return longest, kind_of
end

local function seconds_of(cost)
  local longest = 0
  for kind, rate in pairs(rates) do longest = math.max(longest, cost[kind] / rate) end
  return longest
end

-- Live calls in flight; processes that fell silent are forgotten.
local function live_in_flight()
  local flat, sum = redis.call('HGETALL', KEYS[3]), 0
  for n = 1, #flat, 2 do
    local count, holds_until = string.match(flat[n + 1], '^(%-?%d+)|(.+)$')
    if tonumber(holds_until) < now then
      redis.call('HDEL', KEYS[3], flat[n])
    else
      sum = sum + math.max(0, tonumber(count))
    end
  end
  return sum
end

local function open_for(trips)
  return math.min(MOST_OPEN_SECONDS, FIRST_OPEN_SECONDS * 2 ^ math.min(16, trips - 1))
end

-- The first call after a rest: what the provider took on since the last return is its rate. If it took nothing, that
-- return was too early: one call then asks whether it is time.
local function resume()
  local ran = math.max(0.1, family.ran)
  if family.taken >= 1 or not family.epoch_seconds then
    family.sure_seconds = family.epoch_seconds and ran or FIRST_GUESS_SECONDS
    family.epoch_taken, family.epoch_seconds = math.max(0, family.taken), ran
    -- Who counts by the minute will let nobody return soon this time either.
    family.missed = math.max(0, (family.missed or 0) - 1)
    family.late_seconds = family.lately > 0 and family.lately_seconds + REST_SECONDS or 0
    family.late_taken = family.lately * family.lately_seconds
  else
    -- Refusals came in after the rest had begun: nothing was taken since the last return.
    family.epoch_taken, family.epoch_seconds = math.max(0, family.epoch_taken + family.taken), family.epoch_seconds + ran
    if family.late_seconds > 0 then family.late_seconds = family.late_seconds + ran end
    family.missed, family.probe = family.missed + 1, 1
  end
  family.taken, family.ran, family.grown, family.resting, family.resumed_at = 0, 0, 0, 0, now
  find_rates()
  if not known then family.r = family.probe or 0 end
end

-- Retry-After and the breaker: seconds to wait, for what, and whether the call would be a probe.
local function stopped()
  if (connection.blocked_until or 0) > now then return connection.blocked_until - now, "the provider's Retry-After" end
  if (connection.trips or 0) > 0 then
    if connection.open_until > now then return connection.open_until - now, 'the provider to be back' end
    return 0, nil, true
  end
  if (family.hold_until or 0) > now then return family.hold_until - now, 'first answers' end
  if resting then resume() end
  return 0, nil, false
end

-- The probe's answer resets this; without one the next probe comes after twice the time.
local function probe()
  connection.trips = connection.trips + 1
  connection.open_until = now + open_for(connection.trips)
end

-- `waiting_for` is what batch rows wait for; nil leaves what is there. How long all this is kept is said now and then.
local function save(waiting_for)
  local kept = family.kept_at and now >= family.kept_at and now - family.kept_at < KEPT_AGAIN_SECONDS
  local keep = not kept or next(stored_connection) == nil
  if keep then family.kept_at = now end
  write(KEYS[1], connection, stored_connection)
  write(KEYS[2], family, stored_family, waiting_for and {'waiting_for', waiting_for})
  if keep then
    redis.call('SADD', KEYS[4], ARGV[6])
    for _, key in ipairs({KEYS[1], KEYS[2], KEYS[4]}) do redis.call('EXPIRE', key, STATE_SECONDS) end
  end
end
