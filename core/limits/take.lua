-- How many of a batch's leading rows may start now.
-- ARGV[6] family, ARGV[7] batch calls in flight on the connection, ARGV[8] rows asked for,
-- ARGV[9] "input output input output ..." of the rows
-- Returns {granted, seconds until the next may start, what it waits for}.
local in_flight, asked = tonumber(ARGV[7]), tonumber(ARGV[8])

local function answer(granted, wait, waiting_for)
  connection.batch, connection.batch_at = in_flight + granted, now
  save(waiting_for or '')
  return {granted, string.format('%.6f', wait), waiting_for or ''}
end

local wait, waiting_for, probing = stopped()
if wait > 0 then return answer(0, wait, waiting_for) end

local room = asked
local function bound(most, seconds, words)
  if most < room then room, wait, waiting_for = math.max(0, math.floor(most)), seconds, words end
end

local turn = false
if most_in_flight then
  local live = live_in_flight()
  local free = most_in_flight - in_flight - live
  local mine = math.floor(most_in_flight * BATCH_SHARE) - in_flight
  if (connection.live_wait_until or 0) > now then
    if mine <= 0 and most_in_flight * BATCH_SHARE < 1 and now - (connection.turn_at or 0) >= BATCH_TURN_SECONDS then
      mine, turn = 1, true
    end
    bound(math.min(free, mine), 0.1, 'live completions')
  else
    local kept = 0
    if now - (connection.live_at or 0) < LIVE_RECENT_SECONDS then kept = math.ceil(most_in_flight * LIVE_SLOTS_SHARE) end
    if most_in_flight == 1 then kept = 0 end
    bound(math.min(free, math.max(mine, free - kept)), 0.1, 'concurrency')
  end
end
if (family.probe or 0) > 0 then bound(1, PROBE_SECONDS, 'first answers') end
if slow_start() then bound(family.first, 0.05, 'first answers') end
if probing then bound(PROBES, open_for(connection.trips + 1), 'the provider to be back') end

local granted = 0
if next(rates) == nil then
  granted = room
  started(granted)
else
  local live_waits = (family.live_wait_until or 0) > now
  local live_recent = live_waits or now - (family.live_at or 0) < LIVE_RECENT_SECONDS
  for input, output in string.gmatch(ARGV[9], '(%d+) (%d+)') do
    if granted >= room then break end
    local cost = costs(tonumber(input), tonumber(output))
    local seconds = seconds_of(cost)
    local short, kind = shortage(cost, 0)
    local by_share = live_recent and family.share >= math.min(seconds, SHARE_SAVED_SECONDS)
    if not by_share and (live_waits or short > 0) then
      wait, waiting_for = short, WORDS[kind]
      if live_waits then
        wait, waiting_for = (math.min(seconds, SHARE_SAVED_SECONDS) - family.share) / BATCH_SHARE, 'live completions'
      end
      break
    end
    charge(cost)
    family.share = family.share - seconds
    if short == 0 and not live_waits then family.share = math.max(family.share, -SHARE_DEBT_SECONDS) end
    granted = granted + 1
  end
end
if granted > 0 and probing then probe() end
if granted > 0 and turn then connection.turn_at = now end
if granted == asked then wait, waiting_for = 0, nil end
return answer(granted, wait, waiting_for)
