-- Ends the feeding of a generation (ARGV[1]) of the list at KEYS[1], unless KEYS[2] says that it is the live one, and forgets its
-- marks (KEYS[3]): were it begun once more, it would be filled anew. Its rows are deleted after it, and then its place in the list.
if (redis.call('GET', KEYS[2]) or '1') == ARGV[1] then
    return redis.error_reply('LIVE generation ' .. ARGV[1] .. ' is the one that is asked')
end
redis.call('DEL', KEYS[3])
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], 'ending') end
return 1
