-- KEYS: an answer, the marks of each of its partitions.
-- Answers: the answer's data (false: none that counts), how far the cache has come in each partition (false: unknown).
local data, parts = unpack(redis.call('HMGET', KEYS[1], 'data', 'parts'))
local found = {data and counts(cjson.decode(parts)) and data}
for n = 2, #KEYS do
  found[n] = redis.call('ZSCORE', KEYS[n], 'position')
end
return found
