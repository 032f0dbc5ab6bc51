-- Let the next receivers have the shards at once.
-- KEYS: the set of receivers, the lease of each shard. ARGV: owner.
redis.call('ZREM', KEYS[1], ARGV[1])
for at = 2, #KEYS do
  if redis.call('GET', KEYS[at]) == ARGV[1] then
    redis.call('DEL', KEYS[at])
  end
end
