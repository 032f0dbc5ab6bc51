-- KEYS: an answer, the marks of each of its partitions. ARGV: data, parts, seconds to keep it.
-- Answers 1, or 0: it does not count any more, or a newer one is there.
local parts = cjson.decode(ARGV[2])
if not counts(parts) then return 0 end
local there = redis.call('HGET', KEYS[1], 'parts')
if there then
  local known = cjson.decode(there)
  if counts(known) then
    for n, part in ipairs(parts) do
      if tonumber(part.seq) < tonumber(known[n].seq) then return 0 end
    end
  end
end
redis.call('HSET', KEYS[1], 'data', ARGV[1], 'parts', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
