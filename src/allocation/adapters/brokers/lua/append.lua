-- Append messages to a stream, in order, but those whose version their key has passed.
-- KEYS: the stream, the hash of the last version of each key. ARGV: key, version (0: none), event; three a message.
-- Answers how many messages are done with, and the error that stopped it, if one did.
local passed, done, failure = {}, 0, false
local news = {}
for at = 1, #ARGV, 3 do
  local key, version = ARGV[at], tonumber(ARGV[at + 1])
  if version > 0 and not passed[key] then
    passed[key] = tonumber(redis.call('HGET', KEYS[2], key) or '0')
  end
  if version == 0 or version > passed[key] then
    local added = redis.pcall('XADD', KEYS[1], '*', 'key', key, 'event', ARGV[at + 2])
    if added.err then
      failure = added.err
      break
    end
    if version > 0 then
      passed[key], news[key] = version, ARGV[at + 1]
    end
  end
  done = done + 1
end
for key, version in pairs(news) do
  redis.call('HSET', KEYS[2], key, version)
end
return {done, failure}
