-- Read what is new in a stream, if the lease of its shard is still the owner's: who was paused for longer than its
-- lease reads nothing past its successor.
-- KEYS: the lease, the stream. ARGV: owner, group, consumer, most. Answers the entries; nil: the lease is lost.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return false
end
local found = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4], 'STREAMS', KEYS[2], '>')
return found and found[1][2] or {}
