-- Take over, from a place in the list of pending entries on, what was read and never settled.
-- KEYS: the lease, the stream. ARGV: owner, group, consumer, where to begin, most.
-- Answers where to go on (0-0: that was all), the entries, [id, consumer, idle, deliveries] of each, the ids of those
-- that were trimmed away before they were settled, and the last id that the group was given; nil: the lease is lost.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return false
end
local found = redis.call('XAUTOCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, ARGV[4], 'COUNT', ARGV[5])
local entries, counts = found[2], {}
if #entries > 0 then
  counts = redis.call('XPENDING', KEYS[2], ARGV[2], entries[1][1], entries[#entries][1], #entries)
end
local last = '0-0'
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
  local group = {}
  for at = 1, #fields, 2 do
    group[fields[at]] = fields[at + 1]
  end
  if group['name'] == ARGV[2] then
    last = group['last-delivered-id']
  end
end
return {found[1], entries, counts, found[3] or {}, last}
