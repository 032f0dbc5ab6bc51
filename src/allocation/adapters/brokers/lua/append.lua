-- Append messages to a stream, in order, but those of a version that it was given before.
-- KEYS: the stream, the hash of the versions of each key. ARGV: whether versions are gapless ('1'), then key, version
-- (0: none), event; three a message. Answers how many messages are done with, and the error that stopped it, if any.
--
-- Of each key is kept: "until low high". The versions up to `until` and those from `low` to `high` were given; those
-- between were lost, with a server that had not synced them, and are taken when they are said again. Where versions
-- are not gapless only the newest counts.
local gapless = ARGV[1] == '1'
local known, changed, done, failure = {}, {}, 0, false

local function state_of(key)
  if not known[key] then
    local kept = redis.call('HGET', KEYS[2], key) or '0 0 0'
    local upto, low, high = string.match(kept, '(%d+) (%d+) (%d+)')
    known[key] = {tonumber(upto), tonumber(low), tonumber(high)}
  end
  return known[key]
end

local function was_given(state, version)
  if not gapless then
    return version <= state[3]
  end
  return version <= state[1] or (state[2] <= version and version <= state[3])
end

local function give(state, version)
  if version < state[2] then
    state[1] = version
  elseif version == state[3] + 1 and state[3] > 0 then
    state[3] = version
  else
    state[1], state[2], state[3] = state[3], version, version
  end
end

for at = 2, #ARGV, 3 do
  local key, version = ARGV[at], tonumber(ARGV[at + 1])
  local state = version > 0 and state_of(key)
  if not state or not was_given(state, version) then
    local added = redis.pcall('XADD', KEYS[1], '*', 'key', key, 'event', ARGV[at + 2])
    if added.err then
      failure = added.err
      break
    end
    if state then
      give(state, version)
      changed[key] = state
    end
  end
  done = done + 1
end
for key, state in pairs(changed) do
  redis.call('HSET', KEYS[2], key, string.format('%.0f %.0f %.0f', state[1], state[2], state[3]))
end
return {done, failure}
