-- claim.lua for many attempts on one map at once. It returns a list with false
-- for each that has won, and the holder for all others.
-- KEYS: tiles, claims, board; ARGV: ttl, board, and for each attempt tile,
-- player, geohash, reward.
local tiles, claims = KEYS[1], KEYS[2]
local fresh, holders = redis.call('EXISTS', tiles) == 0, {}
for i = 3, #ARGV, 4 do
  local tile, player = ARGV[i], ARGV[i + 1]
  local won = redis.call('HSETNX', tiles, tile, player) == 1
  if won then
    redis.call('XADD', claims, '*', 'tile', tile, 'player', player, 'geohash', ARGV[i + 2], 'reward', ARGV[i + 3])
    if ARGV[2] ~= '' then
      redis.call('ZINCRBY', KEYS[3], ARGV[i + 3], player)
    end
  end
  holders[#holders + 1] = not won and redis.call('HGET', tiles, tile)
end
if fresh then
  redis.call('EXPIRE', tiles, ARGV[1])
  redis.call('EXPIRE', claims, ARGV[1])
end
return holders
