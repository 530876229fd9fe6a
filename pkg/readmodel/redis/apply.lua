-- Keeps rows that are newer than what is kept. KEYS[1] lists the generations, KEYS[2] the blocks that are being applied. ARGV:
-- what all keys begin with; the generation to write to, or '' for all of them; the block, its part ('first', 'middle', 'last',
-- 'only') and for how many seconds it may take; and then five words a row: kind, id, field, order, value.
--
-- What orders rows are integers of 64 bits in decimal: as Lua's numbers, which are doubles, large ones would be equal.
local function above(a, b)
    if #a ~= #b then return #a > #b end
    return a > b
end

local function first(value) return string.match(value, '^%d+') end

-- before: whether the first outcome was sent before the second. Each begins with time, partition and offset.
local function before(a, b)
    local a1, a2, a3 = string.match(a, '^(%d+) (%d+) (%d+)')
    local b1, b2, b3 = string.match(b, '^(%d+) (%d+) (%d+)')
    if a1 ~= b1 then return above(b1, a1) end
    if a2 ~= b2 then return above(b2, a2) end
    return above(b3, a3)
end

local prefix, only, block, part = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if part == 'first' then
    local now = tonumber(redis.call('TIME')[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. now) -- of projectors that were killed: nobody waits for them any more
    redis.call('ZADD', KEYS[2], now + tonumber(ARGV[5]), block)
end

local generations = {}
local listed = redis.call('HGETALL', KEYS[1])
if #listed == 0 then listed = {'1', 'fed'} end
for i = 1, #listed, 2 do
    if listed[i + 1] == 'fed' and (only == '' or only == listed[i]) then
        generations[#generations + 1] = prefix .. ':g' .. listed[i] .. ':'
    end
end
if only ~= '' and #generations == 0 then
    return redis.error_reply('NOGENERATION there is no generation ' .. only)
end

local function keep(generation, kind, id, field, version, value)
    if kind == 'row' then
        local key = generation .. 'sku:' .. id
        local known = redis.call('HGET', key, field)
        if not known or above(version, first(known)) then
            redis.call('HSET', key, field, value)
        end
    elseif kind == 'line' or kind == 'gone' then
        -- other has the versions of lines that were deallocated: a row from before must not bring one back.
        local key, other = generation .. 'order:' .. id, generation .. 'gone:' .. id
        local known, gone = redis.call('HGET', key, field), redis.call('HGET', other, field)
        if not (known and not above(version, first(known))) and not (gone and not above(version, gone)) then
            if kind == 'line' then
                redis.call('HSET', key, field, value)
                redis.call('HDEL', other, field)
            else
                redis.call('HSET', other, field, version)
                redis.call('HDEL', key, field)
            end
        end
    elseif kind == 'ref' then
        redis.call('ZADD', generation .. 'ref:' .. id, 0, field)
    end
end

for i = 6, #ARGV, 5 do
    local kind, id, value = ARGV[i], ARGV[i + 1], ARGV[i + 4]
    if kind == 'outcome' then
        local key = prefix .. ':outcome:' .. id
        local known = redis.call('GET', key)
        if not known or before(value, known) then
            redis.call('SET', key, value)
        end
    else
        for _, generation in ipairs(generations) do
            keep(generation, kind, id, ARGV[i + 2], ARGV[i + 3], value)
        end
    end
end

if part == 'last' or part == 'only' then redis.call('ZREM', KEYS[2], block) end
return 1
