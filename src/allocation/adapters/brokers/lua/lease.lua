-- Share out the shards among the receivers that are alive: prolong leases, give up what is beyond one's share, take
-- what is free up to it.
-- KEYS: the set of receivers, the lease of each shard. ARGV: owner, milliseconds, and for each shard whether something
-- of it is in hand ('1'): then it is not given up.
-- Answers for each shard: 0 others have it, 1 still held, 2 newly taken.
local owner, milliseconds = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + milliseconds, owner)
redis.call('PEXPIRE', KEYS[1], milliseconds)
local share = math.ceil((#KEYS - 1) / redis.call('ZCARD', KEYS[1]))

local holders, held, answer = {}, 0, {}
for at = 2, #KEYS do
  holders[at] = redis.call('GET', KEYS[at])
  if holders[at] == owner then
    held = held + 1
  end
end
for at = 2, #KEYS do
  answer[at - 1] = 0
  if holders[at] == owner then
    if held > share and ARGV[at + 1] == '0' then
      redis.call('DEL', KEYS[at])
      held = held - 1
    else
      redis.call('PEXPIRE', KEYS[at], milliseconds)
      answer[at - 1] = 1
    end
  end
end
for at = 2, #KEYS do
  if not holders[at] and held < share and redis.call('SET', KEYS[at], owner, 'NX', 'PX', milliseconds) then
    held = held + 1
    answer[at - 1] = 2
  end
end
return answer
