-- The pace's part in Redis, where each script runs alone. `workers/pace.py` puts the numbers that both need in front,
-- and behind it the call of one function: book, ask, late or throttled.
--
-- A limit is a hash:
--   v, v_at          its own clock (µs), and when that was read
--   tat              the time on that clock by which all booked slots have passed (theoretical arrival time)
--   hold             until when the service holds everybody (time of the day, µs)
--   factor, since, keep     the part of the rate in use: kept for `keep` seconds from `since` on, then it climbs
--   cut_at, sent_since, refused_since     the last cut, and the calls and refusals since
--   refused_at, narrow_s    the last 429; for so long after it the limit is taken to count narrowly
--   free, second     of a narrow limit: when the last call's time is over, and what was booked in the last second
--   interval, used…, refused…     for people who look (orchestrator/pace_view.py)

-- Calls that were sent before a cut was known are one flight: they are answered alike and cut once.
local FLIGHT_S = 1
-- So many refusals are the price of using a limit whole: a call comes early where the one before it came late. More
-- than that, and the rate is a little too high; a tenth: it is too high; half: far too high, or a storm.
local PRICE, SOME, MANY = 0.003, 0.1, 0.5
local CUT, CUT_FOR_SOME, CUT_FOR_MANY, LOWEST = 0.985, 0.96, 0.8, 0.1
-- Older calls do not count in these parts.
local RECENT_CALLS = 500
-- A cut rate is kept, four times as long each time that it had climbed and was refused again: each look beyond the
-- limit costs refusals. For a short time after a deep cut, which is a storm or a guess, and after long without any.
local LONGER, LONGEST_KEEP_S, FORGOTTEN_S = 4, 60, 120
-- What may go out back to back after an idle moment, where no limit counts narrowly: a tenth of a second's worth.
local BURST_S = 0.1
-- A limit that was refused again soon after it was taken to be narrow is narrow for four times as long.
local NARROW_S, LONGEST_NARROW_S = 60, 3600
-- What a narrow limit is given besides the time that a call takes, for calls that reach the service sooner than the
-- one before them did: a fiftieth of it.
local MARGIN, LONGEST_MARGIN_US = 0.02, 3000
-- No worker books so far ahead: a worker of an earlier version wrote the time of the day there.
local NOT_OURS_US = 3600 * US

local time = redis.call('TIME')
local now = time[1] * US + time[2]

local function text(number)
  return string.format('%.0f', number)
end

-- Limit n of this call: the time on its clock that a unit takes (µs), and how many units the call is.
local function asked(n)
  return tonumber(ARGV[2 * n - 1]), tonumber(ARGV[2 * n])
end

-- Count in windows of time, this one and the one before it: enough to say how much there was lately.
local function note(key, name, window_s, amount)
  local stored = redis.call('HMGET', key, name .. '_in', name, name .. '_before')
  local window, seen = math.floor(now / (window_s * US)), tonumber(stored[1])
  local count, before = tonumber(stored[2]) or 0, tonumber(stored[3]) or 0
  if seen ~= window then
    before = seen == window - 1 and count or 0
    count = 0
  end
  redis.call('HSET', key, name .. '_in', window, name, count + amount, name .. '_before', before)
end

-- The part of the rate at a time. It climbs hardly at first, because the limit may be near, and the slower the longer
-- it was kept: where a limit was found again and again, a look beyond it stays small. (pace_view.climbed)
local function factor_at(limit, at)
  local climbing_s = (at - limit.since) / US - limit.keep
  if climbing_s <= 0 then return limit.factor end
  local doublings = (climbing_s * SHORT_KEEP_S / math.max(limit.keep, SHORT_KEEP_S)) ^ 2
  return math.min(1, limit.factor * 2 ^ doublings)
end

-- A limit's state with its clock brought up to now. Between two looks the mean of the factor counts.
local function read_limit(key)
  local names = {'factor', 'since', 'keep', 'hold', 'v', 'v_at', 'tat', 'refused_at', 'narrow_s', 'free', 'cut_at'}
  local stored, limit = redis.call('HMGET', key, unpack(names)), {key = key}
  for n, name in ipairs(names) do limit[name] = tonumber(stored[n]) end
  if not limit.factor then
    limit.factor, limit.since = FIRST_FACTOR, now
    redis.call('HSET', key, 'factor', limit.factor, 'since', text(now))
  end
  limit.keep, limit.hold, limit.cut_at = limit.keep or FIRST_KEEP_S, limit.hold or 0, limit.cut_at or 0
  limit.v, limit.v_at, limit.tat = limit.v or 0, limit.v_at or now, limit.tat or 0
  limit.refused_at, limit.narrow_s = limit.refused_at or 0, limit.narrow_s or NARROW_S
  limit.narrow = now - limit.refused_at < limit.narrow_s * US
  limit.free = limit.narrow and limit.free or 0
  if limit.tat - limit.v > NOT_OURS_US then limit.tat = limit.v end
  local from = math.max(limit.v_at, limit.hold)
  limit.rate = factor_at(limit, now)
  if now > from then limit.v = limit.v + (now - from) * (factor_at(limit, from) + limit.rate) / 2 end
  redis.call('HSET', key, 'v', text(limit.v), 'v_at', text(now))
  redis.call('PEXPIRE', key, 86400000)
  return limit
end

-- The first time from `slot` on at which a call leaves the second before it within the limit, wherever a service that
-- counts whole seconds has theirs begin. Notes the call in `limit.second`.
local function within_a_second(limit, slot, interval, cost)
  local booked, held, first = {}, 0, 1
  for at, units in string.gmatch(redis.call('HGET', limit.key, 'second') or '', '(%S+) (%S+)') do
    booked[#booked + 1] = {tonumber(at), tonumber(units)}
    held = held + tonumber(units)
  end
  local second, room = US * limit.rate, US / interval * (1 + 1e-9)
  while booked[first] and (booked[first][1] <= slot - second or held + cost > room) do
    slot = math.max(slot, booked[first][1] + second)
    held = held - booked[first][2]
    first = first + 1
  end
  local kept = {}
  for n = first, #booked do kept[#kept + 1] = text(booked[n][1]) .. ' ' .. booked[n][2] end
  kept[#kept + 1] = text(slot) .. ' ' .. cost
  limit.second = table.concat(kept, ' ')
  return slot
end

-- How long a call waits for its slot, as things are now. At a narrow limit it also waits until the time of the call
-- before it is over, unless it `goes_next`.
local function wait_for(limit, slot, goes_next)
  local free = goes_next and 0 or limit.free
  return math.max(limit.hold - now, 0) + math.max(slot - limit.v, free - limit.v, 0) / limit.rate
end

-- A call goes, in `wait`. A narrow limit's clock is put back by as much as the call is late, so that those behind it
-- keep their distance; but by no more than the call takes, else the next slot would come before the limit is free. The
-- limit that the call waited for longest says how late it is: at the others its turn came earlier.
local function begin_call(limits, slots, wait)
  local late = math.huge
  for n, limit in ipairs(limits) do late = math.min(late, math.max(limit.v - slots[n], 0) / limit.rate) end
  for n, limit in ipairs(limits) do
    if limit.narrow then
      local interval, cost = asked(n)
      local takes = interval * cost
      limit.v = limit.v - math.min(late * limit.rate, takes)
      local margin = math.min(MARGIN * takes, LONGEST_MARGIN_US)
      redis.call('HSET', limit.key, 'v', text(limit.v), 'free', text(limit.v + (wait + margin) * limit.rate + takes))
    end
  end
end

-- What a worker is told: its wait (µs); whether it goes after that without asking again; whether a limit is narrow; its
-- slots. At a narrow limit a call asks again shortly before its slot, for by then the one before it may have been late.
local function answer(limits, slots, wait)
  local narrow = false
  for _, limit in ipairs(limits) do narrow = narrow or limit.narrow end
  wait = math.floor(wait)
  local goes = wait <= (narrow and GRANTED_US or ASK_AGAIN_US)
  if goes and narrow then begin_call(limits, slots, wait) end
  return {wait, goes and 1 or 0, narrow and 1 or 0, unpack(slots)}
end

-- Book a slot at every limit of a call, or at none if one has no slot soon.
local function book()
  local limits, slots, wait = {}, {}, 0
  for n, key in ipairs(KEYS) do
    local limit = read_limit(key)
    local slot = math.max(limit.tat, limit.v, limit.free)
    if limit.narrow then slot = within_a_second(limit, slot, asked(n)) end
    limits[n], limit.slot = limit, slot
    slots[n] = math.floor(slot - (limit.narrow and 0 or BURST_S * US))
    wait = math.max(wait, wait_for(limit, slots[n]))
  end
  if wait > LONGEST_WAIT_S * US then return {math.floor(wait), 0, 0} end
  for n, limit in ipairs(limits) do
    local interval, cost = asked(n)
    note(limit.key, 'used', USED_WINDOW_S, cost)
    redis.call('HSET', limit.key, 'tat', text(limit.slot + interval * cost), 'interval', interval,
      'second', limit.second or '')
    redis.call('HINCRBY', limit.key, 'sent_since', 1)
  end
  return answer(limits, slots, wait)
end

-- How long a booked call waits by now. A time beyond all that is booked was booked before Redis was emptied, on a clock
-- that is gone: nothing is left of it.
local function ask()
  local limits, slots, wait = {}, {}, 0
  local goes_next = ARGV[3 * #KEYS + 1] == '1'
  for n, key in ipairs(KEYS) do
    local limit, slot = read_limit(key), tonumber(ARGV[2 * #KEYS + n])
    if slot > limit.tat then return {-1, 0, 0} end
    limits[n], slots[n] = limit, slot
    wait = math.max(wait, wait_for(limit, slot, goes_next))
  end
  return answer(limits, slots, wait)
end

-- A call may have reached the service so much later (µs) than calls do: those behind it are put off.
local function late()
  for _, key in ipairs(KEYS) do
    local limit = read_limit(key)
    if limit.narrow then redis.call('HSET', key, 'v', text(limit.v - tonumber(ARGV[1]) * limit.rate)) end
  end
end

-- The cut that the refusals since the last one ask for; nil for none. Changes how long the rate is kept.
local function cut_of(limit)
  local counts = redis.call('HMGET', limit.key, 'sent_since', 'refused_since')
  local sent, refused = tonumber(counts[1]) or 0, (tonumber(counts[2]) or 0) + 1
  if sent > RECENT_CALLS then
    sent, refused = RECENT_CALLS, (refused - 1) * RECENT_CALLS / sent + 1
  end
  redis.call('HSET', limit.key, 'sent_since', math.floor(sent), 'refused_since', refused)
  if refused <= 1 + PRICE * sent or now - limit.cut_at < FLIGHT_S * US then return nil end
  local quiet_s = (now - limit.since) / US
  if refused >= sent * MANY then
    limit.keep, limit.since = SHORT_KEEP_S, now
    return CUT_FOR_MANY
  end
  if quiet_s > FORGOTTEN_S then
    limit.keep, limit.since = SHORT_KEEP_S, now
  elseif quiet_s > limit.keep then
    limit.keep, limit.since = math.min(LONGER * limit.keep, LONGEST_KEEP_S), now
  end
  return refused >= sent * SOME and CUT_FOR_SOME or CUT
end

-- A call was answered 429. The service does not always say which of its limits was met: the one with most booked is
-- taken for it and cut; any may count narrowly.
local function throttled()
  local met
  for _, key in ipairs(KEYS) do
    local limit = read_limit(key)
    if not met or limit.tat - limit.v > met.tat - met.v then met = limit end
    if not limit.narrow then
      local soon = now - limit.refused_at < 2 * limit.narrow_s * US
      local narrow_s = soon and math.min(LONGER * limit.narrow_s, LONGEST_NARROW_S) or NARROW_S
      redis.call('HSET', key, 'narrow_s', narrow_s)
    end
    redis.call('HSET', key, 'refused_at', text(now))
  end
  note(met.key, 'refused', REFUSED_WINDOW_S, 1)
  local cut = cut_of(met)
  if cut then
    redis.call('HSET', met.key, 'factor', math.max(LOWEST, met.rate * cut), 'keep', met.keep,
      'since', text(met.since), 'cut_at', text(now), 'sent_since', 0, 'refused_since', 0)
  end
  local hold = now + tonumber(ARGV[1])
  if hold > met.hold then redis.call('HSET', met.key, 'hold', text(hold)) end
end
