-- What came of calls, added up by a process over some tens of milliseconds.
-- ARGV[6] family; tokens: ARGV[7] requests given back, ARGV[8] input and ARGV[9] output given back with them,
-- ARGV[10] input used beyond its estimate (may be negative), ARGV[11] output estimated, ARGV[12] produced,
-- ARGV[13] produced beyond its estimate; outcomes: ARGV[14] good answers, ARGV[15] failures since the last of them,
-- ARGV[16] 429s, ARGV[17] their longest Retry-After in seconds, '' if none said; ARGV[18] batch calls that ended;
-- readings: ARGV[19..26] limit, remaining of requests, tokens, input, output, '' if not said;
-- ARGV[27] how many seconds ago the last of the calls answered with 429 began;
-- ARGV[28] "input output input output ..." as estimated, of calls that used no tokens
local function arg(n) return tonumber(ARGV[n]) or 0 end

-- Readings first: what follows is counted in limits as they are now.
local was_known = known
for n, kind in ipairs(KINDS) do
  local limit = tonumber(ARGV[17 + 2 * n])
  if limit then family['limit_' .. kind] = limit end
end
find_limits()
find_rates()
local learning = known and not was_known
if learning then family.r = nil end
for n, kind in ipairs(KINDS) do
  local remaining = tonumber(ARGV[18 + 2 * n])
  if rates[kind] then
    family[kind] = math.min(capacities[kind], family[kind] or first_level(kind))
    if learning and (remaining or 0) >= 2 * capacities[kind] then family[kind] = capacities[kind] end
    if remaining then
      -- (of a low limit nothing is left when a call has gone out, and by its answer there is again)
      if limits[kind] >= LOW_FROM then family[kind] = math.min(family[kind], remaining) end
      if limits[kind] >= LOW_FROM and remaining < math.max(1, rates[kind] * LOW_SECONDS) and now >= (family.low_until or 0) then
        family.factor, family.factor_at = math.max(LOWEST_FACTOR, factor() * CUT_LOW), now
        family.low_until = now + LOW_SETTLES_SECONDS
      end
    end
  end
end

local ratio = family.ratio or FIRST_OUTPUT_RATIO
local delta = {r = arg(7), i = arg(8) - arg(10)}
if produced_counts then
  delta.o = (arg(9) + arg(11)) * ratio - arg(12)
  delta.t = delta.i + delta.o
  if arg(11) > 0 then
    local weight = math.min(1, 0.1 * math.max(1, arg(14)))
    family.ratio = math.max(0.001, math.min(2, ratio + (arg(12) / arg(11) - ratio) * weight))
  end
else
  delta.o = arg(9) - arg(13)
  delta.t = delta.i + delta.o
end
-- What a call was charged, and no more, is given back.
for input, output in string.gmatch(ARGV[28], '(%d+) (%d+)') do
  local cost = costs(tonumber(input), tonumber(output))
  for _, kind in ipairs({'t', 'i', 'o'}) do delta[kind] = delta[kind] + cost[kind] end
end
for kind in pairs(rates) do family[kind] = math.min(capacities[kind], family[kind] + delta[kind]) end
if family.first then
  family.first = family.first + delta.r + ((family.ok or 0) < DOUBLING_ANSWERS and 2 or SLOWER_GROWTH) * arg(14)
end
if family.taken then family.taken = family.taken - arg(7) end
family.ok = math.min(2 * FREE_AFTER, (family.ok or 0) + arg(14))

if arg(14) > 0 then connection.fails, connection.trips, connection.open_until = 0, 0, 0 end
if arg(15) > 0 and (connection.trips or 0) == 0 then
  connection.fails = (connection.fails or 0) + arg(15)
  if connection.fails >= FAILURES_TO_OPEN then
    connection.trips, connection.open_until = 1, now + open_for(1)
    family.first, family.ok = FIRST_CALLS, 0
  end
end

-- Calls that began before the rate was last cut say nothing new.
local function cut_known(rest)
  local again = now - (family.cut_at or 0) < AGAIN_SECONDS
  family.strikes = again and (family.strikes or 0) + 1 or 0
  family.factor = math.max(LOWEST_FACTOR, factor() * (again and CUT_KNOWN_AGAIN or CUT_KNOWN))
  family.factor_at = now
  rest = rest or math.min(MOST_REST_SECONDS, REST_SECONDS * 2 ^ math.min(8, family.strikes))
  family.cut_at, family.cut_until = now, now + math.min(rest, MOST_RETRY_AFTER_SECONDS) + CUT_SETTLES_SECONDS
  return rest
end

local function rest_unknown(rest)
  -- Starts a second, lately.
  local age = math.max(0.1, now - family.first_at)
  local lately = family.seen / SEEN_SECONDS / (1 - math.exp(-age / SEEN_SECONDS))
  local longest = MOST_REST_SECONDS
  if not family.ran then
    -- The first time nothing is measured but what was started since the first call, and a part of it had been saved up.
    family.taken, family.ran = FIRST_GUESS * family.taken, age
    family.lately, family.lately_seconds = FIRST_GUESS * lately, FIRST_GUESS_SECONDS
  else
    local _, refuted = share_of_ceiling()
    family.lately, family.lately_seconds = refuted and lately or 0, SEEN_SECONDS
    longest = math.max(REST_SECONDS, math.min(longest, STEADY_CALLS / ceiling()))
  end
  family.resting = 1
  return rest or math.min(longest, REST_SECONDS * 2 ^ math.min(8, family.missed or 0))
end

if arg(16) > 0 then
  local began = now - arg(27)
  local rest = tonumber(ARGV[17])
  if known then
    if now >= (family.cut_until or 0) and began >= (family.cut_at or 0) - 0.00001 then rest = cut_known(rest) end
  else
    -- (times are kept to a microsecond)
    local late = began < (family.resumed_at or 0) - 0.00001
    if late then
      family.epoch_taken = math.max(0, family.epoch_taken - arg(16))
    else
      family.taken = (family.taken or 0) - arg(16)
    end
    if not late and not resting then rest = rest_unknown(rest) end
  end
  if rest then connection.blocked_until = math.max(connection.blocked_until or 0, now + math.min(rest, MOST_RETRY_AFTER_SECONDS)) end
end
if connection.batch then connection.batch = math.max(0, connection.batch - arg(18)) end
save()
return 1
