-- Makes a generation (ARGV[1]) of the list at KEYS[1] the live one, which KEYS[2] names.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= 'fed' then
    return redis.error_reply('NOGENERATION there is no generation ' .. ARGV[1])
end
redis.call('SET', KEYS[2], ARGV[1])
return 1
