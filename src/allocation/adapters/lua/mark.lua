-- KEYS: the marks of a partition. ARGV: after, until, whether `until` is the head of the log (1 or 0), a life in case
-- one is needed, milliseconds to believe all this, how many marks at most; then things, each behind its place.
-- Answers 1 if the cache begins anew, else 0.
local marks, after, till, most = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[6])
local position, base, life = place(marks, 'position'), place(marks, 'base'), redis.call('ZSCORE', marks, 'life')
local anew = not position or position < after or (ARGV[3] == '1' and position ~= till)
if anew then
  redis.call('DEL', marks)
  position, base, life = till, till, ARGV[4]
else
  for n = 7, #ARGV, 2 do
    redis.call('ZADD', marks, 'GT', ARGV[n], ARGV[n + 1])
  end
  position = math.max(position, till)
  local over = redis.call('ZCARD', marks) - 3 - most
  if over > 0 then
    -- With the oldest marks go the answers from before; a tenth at once, to do it seldom.
    local last = over + math.floor(most / 10)
    base = math.max(base, tonumber(redis.call('ZRANGE', marks, last, last, 'WITHSCORES')[2]))
    base = math.min(base, position)
    redis.call('ZREMRANGEBYSCORE', marks, '-inf', base)
  end
end
redis.call('ZADD', marks, position, 'position', base, 'base', life, 'life')
redis.call('PEXPIRE', marks, ARGV[5])
return anew and 1 or 0
