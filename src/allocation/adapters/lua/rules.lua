-- What the scripts of the cache share; each is sent with this before it.
--
-- The marks of a log partition are one sorted set, so that they are lost together or not at all. Its members are the
-- things that were touched, each with the place of the last event that did, and three that are no things: `position`,
-- how far the cache has come; `base`, answers from before which do not count; `life`, a number drawn at each new
-- beginning.
--
-- An answer is a hash: `data`, and `parts`, a JSON list with, for each partition, the place as of which it was read
-- (`seq`), the things that it rests on (`rests_on`), and the life in which it was looked for (`life`).

local function place(marks, member)
  return tonumber(redis.call('ZSCORE', marks, member) or nil)
end

-- Whether an answer counts: nothing that it rests on was touched since, and nothing was lost or begun anew. The marks of
-- its partitions stand behind the first key, in the same order.
local function counts(parts)
  if #parts ~= #KEYS - 1 then return false end
  for n, part in ipairs(parts) do
    local marks, seq = KEYS[n + 1], tonumber(part.seq)
    local base = place(marks, 'base')
    if not base or seq < base then return false end
    if part.life ~= redis.call('ZSCORE', marks, 'life') then return false end
    for _, thing in ipairs(part.rests_on) do
      local touched = place(marks, thing)
      if touched and seq < touched then return false end
    end
  end
  return true
end
