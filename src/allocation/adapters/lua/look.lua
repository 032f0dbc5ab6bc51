-- KEYS: an answer, the marks of each of its partitions.
-- Answers: the answer's data (false: none that counts), how far the cache has come in each partition (false: unknown),
-- and in which life.
local data, parts = unpack(redis.call('HMGET', KEYS[1], 'data', 'parts'))
local positions, lives = {}, {}
for n = 2, #KEYS do
  positions[n - 1] = redis.call('ZSCORE', KEYS[n], 'position')
  lives[n - 1] = redis.call('ZSCORE', KEYS[n], 'life')
end
return {data and counts(cjson.decode(parts)) and data, positions, lives}
