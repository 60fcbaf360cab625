#!lua name=cairnpeer

-- claim.lua as a function.
local function claim(KEYS, ARGV)
  local tiles, claims = KEYS[1], KEYS[2]
  if redis.call('HSETNX', tiles, ARGV[1], ARGV[2]) == 0 then
    return redis.call('HGET', tiles, ARGV[1])
  end
  redis.call('XADD', claims, '*', 'tile', ARGV[1], 'player', ARGV[2], 'geohash', ARGV[3], 'reward', ARGV[4])
  if redis.call('HLEN', tiles) == 1 then -- the first of its map
    redis.call('EXPIRE', tiles, ARGV[5])
    redis.call('EXPIRE', claims, ARGV[5])
  end
  if ARGV[6] ~= '' then
    redis.call('ZINCRBY', KEYS[3], ARGV[4], ARGV[2])
  end
  return false
end

redis.register_function('claim', claim)
