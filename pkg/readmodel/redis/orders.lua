-- Answers which generation is the live one, by the last of KEYS, and then the hashes at the others, but of each at most ARGV[1]
-- fields: an order of a million lines must not be sent whole.
local answer = {redis.call('GET', KEYS[#KEYS]) or '1'}
for i = 1, #KEYS - 1 do
    if redis.call('HLEN', KEYS[i]) > tonumber(ARGV[1]) then
        answer[i + 1] = redis.call('HRANDFIELD', KEYS[i], ARGV[1], 'WITHVALUES')
    else
        answer[i + 1] = redis.call('HGETALL', KEYS[i])
    end
end
return answer
