"""What Redis does at a time, in Lua. Every script may be repeated: it comes to the same, and to the same answer.

All names of a run begin with ``aurora:{run}:``; the braces keep them on one node of a cluster. ``j`` holds the jobs
without a result, ``q:N`` their order in shard N, ``t:KEY`` the turns of one, ``b:N`` how often it was begun as
``count:epoch``, ``d`` the keys of those that have a result, ``out`` the results. ``epochs`` and ``owners`` are by
shard; ``leases`` holds until when, ``free`` the shards that have work and no owner.
"""

from __future__ import annotations

import hashlib

import msgspec


class Script(msgspec.Struct, frozen=True):
    """A script and the name under which Redis keeps it.

    Args:
        text: In Lua.
    """

    text: str

    @property
    def sha(self) -> str:
        """What `EVALSHA` takes."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


GONE = "GONE"
"""Begins the error of a script that does not find its run."""

_BEGIN = """
local P = string.sub(KEYS[1], 1, -5)
local call = redis.call
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
"""
_WITH_RUN = f"""{_BEGIN}
if call('EXISTS', KEYS[1]) == 0 then
  return redis.error_reply('{GONE} the run is not there any more')
end
"""
_OWNED = f"""{_WITH_RUN}
local s, epoch = ARGV[1], ARGV[2]
if call('HGET', P .. 'epochs', s) ~= epoch then
  return false
end
"""
_TAKE = """
local function take(s, owner, lease)
  local epoch = call('HINCRBY', P .. 'epochs', s, 1)
  call('HSET', P .. 'owners', s, owner)
  call('ZADD', P .. 'leases', now + lease, s)
  call('SREM', P .. 'free', s)
  return epoch
end
"""

OPEN = Script(f"""{_BEGIN}
if ARGV[1] ~= '' then
  call('HSETNX', KEYS[1], 'plan', ARGV[1])
end
return call('HGET', KEYS[1], 'plan')
""")

# ARGV: a token of this request, so that its repetition is answered alike; [shard, key, index, payload, ...]
ADMIT = Script(f"""{_WITH_RUN}
local said = call('GET', P .. 'a:' .. ARGV[1])
if said then
  return tonumber(said)
end
local seq, new, touched = tonumber(call('HGET', KEYS[1], 'seq') or 0), 0, {{}}
local jobs = cmsgpack.unpack(ARGV[2])
for n = 1, #jobs, 4 do
  local s, key = jobs[n], jobs[n + 1]
  if call('HEXISTS', P .. 'j', key) == 0 and call('SISMEMBER', P .. 'd', key) == 0 then
    seq, new, touched[s] = seq + 1, new + 1, true
    call('HSET', P .. 'j', key, string.format('%.0f:', jobs[n + 2]) .. jobs[n + 3])
    call('ZADD', P .. 'q:' .. s, seq, key)
  end
end
for s in pairs(touched) do
  if not call('ZSCORE', P .. 'leases', s) then
    call('SADD', P .. 'free', s)
  end
end
call('HSET', KEYS[1], 'seq', seq)
call('HINCRBY', KEYS[1], 'admitted', new)
call('SET', P .. 'a:' .. ARGV[1], new, 'EX', 300)
return new
""")

REOPEN = Script(f"""{_WITH_RUN}
return call('HDEL', KEYS[1], 'whole')
""")

CLOSE = Script(f"""{_WITH_RUN}
return call('HSET', KEYS[1], 'whole', 1)
""")

CLAIM = Script(f"""{_WITH_RUN}{_TAKE}
local s, owner = ARGV[1], ARGV[2]
local till = call('ZSCORE', P .. 'leases', s)
if till and tonumber(till) > now and ARGV[4] ~= '1' and call('HGET', P .. 'owners', s) ~= owner then
  return false
end
return take(s, owner, tonumber(ARGV[3]))
""")

CLAIM_ANY = Script(f"""{_WITH_RUN}{_TAKE}
for _, s in ipairs(call('ZRANGEBYSCORE', P .. 'leases', '-inf', now)) do
  call('ZREM', P .. 'leases', s)
  if call('EXISTS', P .. 'q:' .. s) == 1 then
    return {{tonumber(s), take(s, ARGV[1], tonumber(ARGV[2]))}}
  end
end
while true do
  local s = call('SPOP', P .. 'free')
  if not s then
    return false
  end
  if call('EXISTS', P .. 'q:' .. s) == 1 then
    return {{tonumber(s), take(s, ARGV[1], tonumber(ARGV[2]))}}
  end
end
""")

# ARGV: shard, epoch, behind which place of the queue, how many, bytes, keys to skip. What has been looked at is bounded
# too, so that nobody waits for a long script.
LOAD = Script(f"""{_OWNED}
local skip, found, last, bytes = {{}}, {{}}, ARGV[3], 0
for _, key in ipairs(cmsgpack.unpack(ARGV[6])) do
  skip[key] = true
end
local rows = call('ZRANGEBYSCORE', P .. 'q:' .. s, '(' .. ARGV[3], '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
for n = 1, #rows, 2 do
  if #found >= tonumber(ARGV[4]) or bytes > tonumber(ARGV[5]) then
    return {{last, found}}
  end
  local key = rows[n]
  last = rows[n + 1]
  if not skip[key] then
    local value, turns = call('HGET', P .. 'j', key), {{}}
    bytes = bytes + #value
    while true do
      local turn = call('HGET', P .. 't:' .. key, #turns)
      if not turn then
        break
      end
      turns[#turns + 1] = turn
      bytes = bytes + #turn
    end
    local count, by = string.match(call('HGET', P .. 'b:' .. s, key) or '0:', '(%d+):(%d*)')
    found[#found + 1] = {{key, value, tonumber(count) - (by == epoch and 1 or 0), turns}}
  end
end
return {{#rows == 2000 and last or '', found}}
""")

# ARGV: shard, epoch, lease in ms, [[begun ...], [job, version, payload ...], [job, payload ...]]
APPLY = Script(f"""{_OWNED}
call('ZADD', P .. 'leases', now + tonumber(ARGV[3]), s)
call('SREM', P .. 'free', s)
local batch = cmsgpack.unpack(ARGV[4])
local begun, turns, results = batch[1], batch[2], batch[3]
for _, key in ipairs(begun) do
  if call('HEXISTS', P .. 'j', key) == 1 then
    local count, by = string.match(call('HGET', P .. 'b:' .. s, key) or '0:', '(%d+):(%d*)')
    if by ~= epoch then
      call('HSET', P .. 'b:' .. s, key, (tonumber(count) + 1) .. ':' .. epoch)
    end
  end
end
for n = 1, #turns, 3 do
  if call('HEXISTS', P .. 'j', turns[n]) == 1 then
    call('HSETNX', P .. 't:' .. turns[n], turns[n + 1], turns[n + 2])
  end
end
local ended = 0
for n = 1, #results, 2 do
  local key = results[n]
  local value = call('HGET', P .. 'j', key)
  if value then
    call('XADD', P .. 'out', '*', 'k', key, 'i', string.match(value, '^%d+'), 'p', results[n + 1])
    call('SADD', P .. 'd', key)
    call('HDEL', P .. 'j', key)
    call('ZREM', P .. 'q:' .. s, key)
    call('HDEL', P .. 'b:' .. s, key)
    call('DEL', P .. 't:' .. key)
    ended = ended + 1
  end
end
if ended > 0 then
  call('HINCRBY', KEYS[1], 'finished', ended)
end
return 1
""")

# What was begun under this claim was not lost with it: it does not count. The epoch grows, so that the claim is over.
RELEASE = Script(f"""{_OWNED}
call('HINCRBY', P .. 'epochs', s, 1)
call('ZREM', P .. 'leases', s)
call('HDEL', P .. 'owners', s)
local rows = call('HGETALL', P .. 'b:' .. s)
for n = 1, #rows, 2 do
  local count, by = string.match(rows[n + 1], '(%d+):(%d*)')
  if by == epoch and tonumber(count) > 1 then
    call('HSET', P .. 'b:' .. s, rows[n], (tonumber(count) - 1) .. ':')
  elseif by == epoch then
    call('HDEL', P .. 'b:' .. s, rows[n])
  end
end
if call('EXISTS', P .. 'q:' .. s) == 1 then
  call('SADD', P .. 'free', s)
end
return 1
""")

PROGRESS = Script(f"""{_WITH_RUN}
local counts = call('HMGET', KEYS[1], 'admitted', 'finished', 'whole')
local owned = {{}}
for _, s in ipairs(call('ZRANGEBYSCORE', P .. 'leases', '(' .. now, '+inf')) do
  owned[#owned + 1] = call('HGET', P .. 'owners', s) or ''
end
return {{tonumber(counts[1] or 0), tonumber(counts[2] or 0), counts[3] and 1 or 0, owned}}
""")

# ARGV: resource, owner, held, want, total, lease in ms. A share is kept as granted:demand:until. Parts are equal as far
# as they are wanted; where there are more owners than there is to share, who has one changes every four leases.
SHARE = Script(f"""{_WITH_RUN}
local K, me = P .. 's:' .. ARGV[1], ARGV[2]
local held, want, total, lease = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local owners, mine, others = {{}}, 0, 0
local rows = call('HGETALL', K)
for n = 1, #rows, 2 do
  local granted, demand, till = string.match(rows[n + 1], '(%d+):(%d+):(%d+)')
  if tonumber(till) <= now then
    call('HDEL', K, rows[n])
  elseif rows[n] == me then
    mine = tonumber(granted)
  else
    owners[#owners + 1] = {{rows[n], tonumber(demand)}}
    others = others + tonumber(granted)
  end
end
if want == 0 and held == 0 then
  call('HDEL', K, me)
  return 0
end
owners[#owners + 1] = {{me, math.max(want, held)}}
table.sort(owners, function(a, b) return a[1] < b[1] end)
local turn = total < #owners and math.floor(now / (4 * lease)) or 0
for n, owner in ipairs(owners) do
  owner[3] = (n + turn) % #owners
end
table.sort(owners, function(a, b) return a[2] < b[2] or (a[2] == b[2] and a[3] < b[3]) end)
local rest, target = total, 0
for n, owner in ipairs(owners) do
  local part = math.min(owner[2], math.floor(rest / (#owners - n + 1)))
  rest = rest - part
  if owner[1] == me then
    target = part
  end
end
local granted = math.max(math.min(target, total - others), math.min(held, mine), 0)
call('HSET', K, me, string.format('%d:%d:%.0f', granted, math.max(want, held), now + lease))
return granted
""")

# ARGV: key, owner, token of this request, lease in ms
BEGIN_ANSWER = Script(f"""{_WITH_RUN}
if call('EXISTS', P .. 'v:' .. ARGV[1]) == 1 then
  return 0
end
local holder = ARGV[3] .. ARGV[2]
local by = call('GET', P .. 'h:' .. ARGV[1])
if by and by ~= holder then
  return 0
end
call('SET', P .. 'h:' .. ARGV[1], holder, 'PX', ARGV[4])
return 1
""")

# ARGV: lease in ms, key, token and owner, ...
RENEW_ANSWERS = Script(f"""{_WITH_RUN}
for n = 2, #ARGV, 2 do
  if call('GET', P .. 'h:' .. ARGV[n]) == ARGV[n + 1] then
    call('PEXPIRE', P .. 'h:' .. ARGV[n], ARGV[1])
  end
end
return 1
""")

# ARGV: key, owner, length of a token, whether there is a payload, payload, time to live in ms or 0
END_ANSWER = Script(f"""{_WITH_RUN}
local V, H = P .. 'v:' .. ARGV[1], P .. 'h:' .. ARGV[1]
local by = call('GET', H)
local mine = by and string.sub(by, tonumber(ARGV[3]) + 1) == ARGV[2]
if ARGV[4] == '1' and call('EXISTS', V) == 0 then
  if ARGV[6] == '0' then
    call('SET', V, ARGV[5])
  else
    call('SET', V, ARGV[5], 'PX', ARGV[6])
  end
elseif not mine then
  return 0
end
if mine then
  call('DEL', H)
end
call('XADD', P .. 'ended', 'MAXLEN', '~', 1000, '*', 'k', ARGV[1])
return 1
""")

LOOK_FOR_ANSWER = Script(f"""{_WITH_RUN}
return {{call('EXISTS', P .. 'h:' .. ARGV[1]), call('GET', P .. 'v:' .. ARGV[1])}}
""")

SHARD_SCRIPTS = (
    *(OPEN, ADMIT, REOPEN, CLOSE, CLAIM, CLAIM_ANY, LOAD, APPLY, RELEASE, PROGRESS),
    *(SHARE, BEGIN_ANSWER, RENEW_ANSWERS, END_ANSWER, LOOK_FOR_ANSWER),
)

# -- the journal: ``meta`` says who owns it, until when, and how often that was renewed; ``rec`` holds the records

# ARGV: holder, lease in ms, token of this owner
JOURNAL_OWN = Script(f"""{_BEGIN}
local own = call('HMGET', KEYS[1], 'token', 'till', 'renewed', 'holder')
if own[1] and own[1] ~= ARGV[3] and tonumber(own[2]) > now then
  return {{0, own[4], tonumber(own[3]), tonumber(own[2]) - now}}
end
call('HSET', KEYS[1], 'token', ARGV[3], 'till', now + tonumber(ARGV[2]), 'renewed', 0, 'holder', ARGV[1])
return {{1, '', 0, call('HLEN', P .. 'rec')}}
""")

JOURNAL_RENEW = Script(f"""{_BEGIN}
if call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
call('HSET', KEYS[1], 'till', now + tonumber(ARGV[2]))
call('HINCRBY', KEYS[1], 'renewed', 1)
return 1
""")

JOURNAL_LEAVE = Script(f"""{_BEGIN}
if call('HGET', KEYS[1], 'token') == ARGV[1] then
  call('DEL', KEYS[1])
end
return 1
""")

# ARGV: token, lease in ms, [key, value, ...]. Returns how many there are, and what stood there already.
JOURNAL_APPEND = Script(f"""{_BEGIN}
if call('EXISTS', KEYS[1]) == 0 then
  return redis.error_reply('{GONE} the journal is not there any more')
end
if call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return false
end
call('HSET', KEYS[1], 'till', now + tonumber(ARGV[2]))
local rows = cmsgpack.unpack(ARGV[3])
local known = {{}}
for n = 1, #rows, 2 do
  if call('HSETNX', P .. 'rec', rows[n], rows[n + 1]) == 0 then
    known[#known + 1] = rows[n]
    known[#known + 1] = call('HGET', P .. 'rec', rows[n])
  end
end
return {{call('HLEN', P .. 'rec'), known}}
""")

# ARGV: token, key, the damaged value
JOURNAL_DROP = Script(f"""{_BEGIN}
if call('HGET', KEYS[1], 'token') == ARGV[1] and call('HGET', P .. 'rec', ARGV[2]) == ARGV[3] then
  call('HDEL', P .. 'rec', ARGV[2])
end
return call('HLEN', P .. 'rec')
""")

JOURNAL_SCRIPTS = (JOURNAL_OWN, JOURNAL_RENEW, JOURNAL_LEAVE, JOURNAL_APPEND, JOURNAL_DROP)
