-- Remove entries that every group has read and settled, and that are older than is to be kept. Never by length: that
-- drops what nobody has read yet, and says nothing. Without a group nothing was read, so nothing goes.
-- KEYS: the stream. ARGV: how many milliseconds to keep what was read. Answers how many entries went.
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err or #groups == 0 then
  return 0
end

local function older(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  if a_ms ~= b_ms then
    return tonumber(a_ms) < tonumber(b_ms)
  end
  return tonumber(a_seq) < tonumber(b_seq)
end

local now = redis.call('TIME')
local oldest = string.format('%.0f-0', math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[1]))
for _, fields in ipairs(groups) do
  local group = {}
  for at = 1, #fields, 2 do
    group[fields[at]] = fields[at + 1]
  end
  local needed = group['last-delivered-id']
  if group['pending'] > 0 then
    needed = redis.call('XPENDING', KEYS[1], group['name'])[2]
  end
  if older(needed, oldest) then
    oldest = needed
  end
end
return redis.call('XTRIM', KEYS[1], 'MINID', oldest)
