-- Keeps rows that are newer than what is kept. KEYS has two keys a row, ARGV four words: kind, field, order, value.
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

for i = 1, #KEYS / 2 do
    local key, other = KEYS[2 * i - 1], KEYS[2 * i]
    local kind, field, version, value = ARGV[4 * i - 3], ARGV[4 * i - 2], ARGV[4 * i - 1], ARGV[4 * i]
    if kind == 'row' then
        local known = redis.call('HGET', key, field)
        if not known or above(version, first(known)) then
            redis.call('HSET', key, field, value)
        end
    elseif kind == 'line' or kind == 'gone' then
        -- other has the versions of lines that were deallocated: a row from before must not bring one back.
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
        redis.call('ZADD', key, 0, field)
    else
        local known = redis.call('GET', key)
        if not known or before(value, known) then
            redis.call('SET', key, value)
        end
    end
end
return 1
