-- A process's live calls in flight on a connection: some ended, or it is still there.
-- KEYS[1] limits:{connection}:live  hash: process -> "live calls in flight|until when that holds"
-- ARGV[1] the time in seconds for tests, '' for the server's; ARGV[2] process; ARGV[3] calls that ended;
-- ARGV[4] calls it holds by its own count; ARGV[5] '1': write that, whatever is here
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local held = redis.call('HGET', KEYS[1], ARGV[2])
local count = tonumber(ARGV[4])
if held and ARGV[5] ~= '1' then count = tonumber(string.match(held, '^(%-?%d+)|')) - tonumber(ARGV[3]) end
if count <= 0 then
  redis.call('HDEL', KEYS[1], ARGV[2])
else
  redis.call('HSET', KEYS[1], ARGV[2], string.format('%d|%.6f', count, now + SLOT_SECONDS))
  redis.call('EXPIRE', KEYS[1], SLOT_SECONDS * 4)
end
return 1
