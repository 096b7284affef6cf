-- One live call. It may go into debt, which batches wait to see paid back; refused, it keeps batches back for a while.
-- ARGV[6] family, ARGV[7] input, ARGV[8] output tokens, ARGV[9] process, ARGV[10] live calls that process holds,
-- ARGV[11] how many more like it the process would take ahead
-- Returns {calls that may start: 0, or 1 and those ahead; seconds to wait, what for, "kind limit remaining seconds ..." of
-- each known limit}.
-- Remaining is the share of the bucket, with what may be borrowed, that is left, of the minute's limit.
local function standing()
  local said = {}
  for _, kind in ipairs(KINDS) do
    if limits[kind] and rates[kind] then
      local borrow = rates[kind] * BORROW_SECONDS
      if kind == 'r' then borrow = math.max(1, borrow) end
      local left = math.max(0, math.min(1, (family[kind] + borrow) / (capacities[kind] + borrow)))
      local full_in = math.max(0, capacities[kind] - family[kind]) / rates[kind]
      said[#said + 1] = string.format('%s %d %d %.3f', NAMES[kind], limits[kind], math.floor(limits[kind] * left), full_in)
    end
  end
  return table.concat(said, ' ')
end

local function answer(granted, wait, waiting_for)
  save()
  return {granted, string.format('%.6f', wait), waiting_for or '', standing()}
end

family.live_at = now
-- (the connection's hash is written for this alone in most calls, and nobody needs it to the second)
if now - (connection.live_at or 0) > LIVE_RECENT_SECONDS / 10 then connection.live_at = now end
local wait, waiting_for, probing = stopped()
if wait > 0 then return answer(0, wait, waiting_for) end

local ahead = math.min(tonumber(ARGV[11]), MOST_AHEAD)
if most_in_flight then
  local batch = 0
  if now - (connection.batch_at or 0) < IN_FLIGHT_SECONDS then batch = connection.batch end
  local in_flight = live_in_flight() + batch
  ahead = math.min(ahead, math.floor(most_in_flight / 2) - in_flight - 1)
  if in_flight >= most_in_flight then
    connection.live_wait_until = now + LIVE_WAIT_SECONDS
    return answer(0, 0, 'concurrency')
  end
end
local cost = costs(tonumber(ARGV[7]), tonumber(ARGV[8]))
local short, kind = shortage(cost, BORROW_SECONDS)
if short > 0 then
  family.live_wait_until = now + LIVE_WAIT_SECONDS
  return answer(0, short, WORDS[kind])
end
charge(cost)
if probing then probe() end

-- Only of what lies about: while somebody waits, or the provider is being felt for, each call asks for itself.
local function plenty()
  if probing or (family.hold_until or 0) > now or (family.live_wait_until or 0) > now then return false end
  for kind in pairs(rates) do
    if family[kind] - cost[kind] < capacities[kind] / 2 then return false end
  end
  return true
end
local granted = 1
while granted <= ahead and plenty() do
  charge(cost)
  granted = granted + 1
end
local held = redis.call('HGET', KEYS[3], ARGV[9])
local count = held and tonumber(string.match(held, '^(%-?%d+)|')) or tonumber(ARGV[10])
redis.call('HSET', KEYS[3], ARGV[9], string.format('%d|%.6f', math.max(0, count) + granted, now + SLOT_SECONDS))
-- (who holds calls already tells of them again and again, and how long that is kept)
if not held then redis.call('EXPIRE', KEYS[3], SLOT_SECONDS * 4) end
return answer(granted, 0)
