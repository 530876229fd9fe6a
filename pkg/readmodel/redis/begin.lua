-- Notes a generation (ARGV[1]) in the list at KEYS[1]. Before there is a list there is the first generation.
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('HSET', KEYS[1], '1', 'fed') end
redis.call('HSET', KEYS[1], ARGV[1], 'fed')
return 1
