package peer

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

//go:embed claim.lua
var luaScript string

//go:embed claims.lua
var luaScriptOfMany string

// luaLibrary is luaScript as a function that Redis keeps.
var luaLibrary = "#!lua name=cairnpeer\nlocal function claim(KEYS, ARGV)\n" + luaScript + "\nend\nredis.register_function('claim', claim)\n"

// TTL is how long Redis keeps what it knows of a map.
const TTL = 10 * time.Minute

// RedisOptions tunes the peers on Redis. The zero value is what did best on
// two cores.
type RedisOptions struct {
	Connections int  // that commands are pipelined on, a power of two up to 256; 0 means 2
	Board       bool // a claim also adds its reward to the player's score in the hunt's ZSET, BoardKey
}

// BoardKey returns the key of a hunt's leaderboard, a ZSET of players by
// reward, which RedisOptions.Board keeps.
func BoardKey(hunt string) string { return "board:" + hunt }

// A redisClaimer is what the peers on Redis share. A map is two keys in one
// slot: a hash from tile to holder, and a stream of claims.
type redisClaimer struct {
	client rueidis.Client
	opts   RedisOptions
	claim  func(ctx context.Context, as []Attempt, out []Outcome) error
	load   func(ctx context.Context) error

	keys sync.Map // mapID → *mapKeys
}

type mapID struct {
	hunt string
	tick int64
}

// mapKeys are the keys of a map.
type mapKeys struct {
	tiles, claims, board string

	lasting sync.Once // of OpenMulti: gives the keys their TTL
}

// OpenLua returns the peer whose claims are decided by a script (EVALSHA):
// compare-and-set on the map's hash, then XADD.
func OpenLua(ctx context.Context, addr string, opts RedisOptions) (Claimer, error) {
	c, err := dial(addr, opts)
	if err != nil {
		return nil, err
	}
	sha := ""
	c.load = func(ctx context.Context) (err error) {
		sha, err = c.client.Do(ctx, c.client.B().ScriptLoad().Script(luaScript).Build()).ToString()
		return err
	}
	c.claim = func(ctx context.Context, as []Attempt, out []Outcome) error {
		return c.call(ctx, as, out, func(k *mapKeys, args ...string) rueidis.Completed {
			return c.client.B().Evalsha().Sha1(sha).Numkeys(3).Key(k.tiles, k.claims, k.board).Arg(args...).Build()
		})
	}
	return c.open(ctx)
}

// OpenLuaBatched returns the peer whose script decides all attempts of a batch
// that are on one map: one call of the script for many, as no original did.
func OpenLuaBatched(ctx context.Context, addr string, opts RedisOptions) (Claimer, error) {
	c, err := dial(addr, opts)
	if err != nil {
		return nil, err
	}
	sha := ""
	c.load = func(ctx context.Context) (err error) {
		sha, err = c.client.Do(ctx, c.client.B().ScriptLoad().Script(luaScriptOfMany).Build()).ToString()
		return err
	}
	c.claim = func(ctx context.Context, as []Attempt, out []Outcome) error { return c.callBatched(ctx, sha, as, out) }
	return c.open(ctx)
}

// OpenFunction returns the peer whose claims are decided by a function that
// Redis keeps (FCALL). It does what OpenLua's script does.
func OpenFunction(ctx context.Context, addr string, opts RedisOptions) (Claimer, error) {
	c, err := dial(addr, opts)
	if err != nil {
		return nil, err
	}
	c.load = func(ctx context.Context) error {
		return c.client.Do(ctx, c.client.B().FunctionLoad().Replace().FunctionCode(luaLibrary).Build()).Error()
	}
	c.claim = func(ctx context.Context, as []Attempt, out []Outcome) error {
		return c.call(ctx, as, out, func(k *mapKeys, args ...string) rueidis.Completed {
			return c.client.B().Fcall().Function("claim").Numkeys(3).Key(k.tiles, k.claims, k.board).Arg(args...).Build()
		})
	}
	return c.open(ctx)
}

// OpenMulti returns the peer that has no script: HSETNX decides, and whoever
// won appends the claim, in MULTI where it is more than one command. It takes
// two round trips, and a crash between them loses the claim while the tile
// stays taken.
func OpenMulti(ctx context.Context, addr string, opts RedisOptions) (Claimer, error) {
	c, err := dial(addr, opts)
	if err != nil {
		return nil, err
	}
	c.load = func(context.Context) error { return nil }
	c.claim = c.twoSteps
	return c.open(ctx)
}

func dial(addr string, opts RedisOptions) (*redisClaimer, error) {
	if opts.Connections == 0 {
		opts.Connections = 2
	}
	if n := opts.Connections; n < 1 || n > 256 || n&(n-1) != 0 {
		return nil, fmt.Errorf("peer: %d connections: want a power of two, 1 to 256", n)
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{addr}, ForceSingleClient: true, DisableCache: true,
		AlwaysPipelining: true, PipelineMultiplex: bits.Len(uint(opts.Connections)) - 1,
	})
	if err != nil {
		return nil, fmt.Errorf("peer: Redis at %s: %w", addr, err)
	}
	return &redisClaimer{client: client, opts: opts}, nil
}

func (c *redisClaimer) open(ctx context.Context) (Claimer, error) {
	if err := c.load(ctx); err != nil {
		c.client.Close()
		return nil, fmt.Errorf("peer: Redis: %w", err)
	}
	return c, nil
}

// Claim implements [Claimer].
func (c *redisClaimer) Claim(ctx context.Context, as []Attempt, out []Outcome) error {
	if err := c.claim(ctx, as, out); err != nil {
		return fmt.Errorf("peer: Redis: %w", err)
	}
	return nil
}

// call decides each attempt by one command, all in one pipeline.
func (c *redisClaimer) call(ctx context.Context, as []Attempt, out []Outcome, command func(k *mapKeys, args ...string) rueidis.Completed) error {
	cmds := make(rueidis.Commands, len(as))
	for i := range as {
		a := &as[i]
		cmds[i] = command(c.keysOf(a), strconv.FormatUint(uint64(a.Tile), 10), a.Player, a.Geohash, strconv.FormatInt(a.Reward, 10), ttlSeconds, c.board())
	}
	for i, r := range c.client.DoMulti(ctx, cmds...) {
		holder, err := r.ToString()
		switch {
		case rueidis.IsRedisNil(err):
			out[i] = Outcome{Won: true}
		case err != nil:
			return err
		default:
			out[i] = Outcome{Holder: holder}
		}
	}
	return nil
}

// board is the script's argument that says whether it keeps a board.
func (c *redisClaimer) board() string {
	if c.opts.Board {
		return "1"
	}
	return ""
}

// callBatched decides the attempts of each map by one call of the script.
func (c *redisClaimer) callBatched(ctx context.Context, sha string, as []Attempt, out []Outcome) error {
	byMap := map[*mapKeys][]int{}
	var order []*mapKeys
	for i := range as {
		k := c.keysOf(&as[i])
		if byMap[k] == nil {
			order = append(order, k)
		}
		byMap[k] = append(byMap[k], i)
	}
	cmds := make(rueidis.Commands, len(order))
	for n, k := range order {
		args := append(make([]string, 0, 2+4*len(byMap[k])), ttlSeconds, c.board())
		for _, i := range byMap[k] {
			a := &as[i]
			args = append(args, strconv.FormatUint(uint64(a.Tile), 10), a.Player, a.Geohash, strconv.FormatInt(a.Reward, 10))
		}
		cmds[n] = c.client.B().Evalsha().Sha1(sha).Numkeys(3).Key(k.tiles, k.claims, k.board).Arg(args...).Build()
	}
	for n, r := range c.client.DoMulti(ctx, cmds...) {
		holders, err := r.ToArray()
		if err != nil {
			return err
		}
		which := byMap[order[n]]
		if len(holders) != len(which) {
			return fmt.Errorf("%d answers to %d attempts", len(holders), len(which))
		}
		for j, h := range holders {
			holder, err := h.ToString()
			if err != nil && !rueidis.IsRedisNil(err) {
				return err
			}
			out[which[j]] = Outcome{Won: err != nil, Holder: holder}
		}
	}
	return nil
}

var ttlSeconds = strconv.Itoa(int(TTL / time.Second))

// twoSteps is the claim of OpenMulti.
func (c *redisClaimer) twoSteps(ctx context.Context, as []Attempt, out []Outcome) error {
	b := c.client.B
	cmds := make(rueidis.Commands, len(as))
	for i := range as {
		cmds[i] = b().Hsetnx().Key(c.keysOf(&as[i]).tiles).Field(strconv.FormatUint(uint64(as[i].Tile), 10)).Value(as[i].Player).Build()
	}
	for i, r := range c.client.DoMulti(ctx, cmds...) {
		won, err := r.AsInt64()
		if err != nil {
			return err
		}
		out[i] = Outcome{Won: won == 1}
	}
	cmds = cmds[:0]
	var lost []int // by command: which attempt asks for its holder, or -1
	add := func(attempt int, cmd rueidis.Completed) { cmds, lost = append(cmds, cmd), append(lost, attempt) }
	for i := range as {
		a, k := &as[i], c.keysOf(&as[i])
		tile := strconv.FormatUint(uint64(a.Tile), 10)
		if !out[i].Won {
			add(i, b().Hget().Key(k.tiles).Field(tile).Build())
			continue
		}
		reward := strconv.FormatInt(a.Reward, 10)
		xadd := b().Xadd().Key(k.claims).Id("*").FieldValue().FieldValue("tile", tile).
			FieldValue("player", a.Player).FieldValue("geohash", a.Geohash).FieldValue("reward", reward).Build()
		first := false
		k.lasting.Do(func() { first = true })
		if !first && !c.opts.Board {
			add(-1, xadd)
			continue
		}
		add(-1, b().Multi().Build())
		add(-1, xadd)
		if first {
			add(-1, b().Expire().Key(k.tiles).Seconds(int64(TTL/time.Second)).Build())
			add(-1, b().Expire().Key(k.claims).Seconds(int64(TTL/time.Second)).Build())
		}
		if c.opts.Board {
			add(-1, b().Zincrby().Key(k.board).Increment(float64(a.Reward)).Member(a.Player).Build())
		}
		add(-1, b().Exec().Build())
	}
	for i, r := range c.client.DoMulti(ctx, cmds...) {
		if lost[i] < 0 {
			if err := r.Error(); err != nil {
				return err
			}
			continue
		}
		holder, err := r.ToString()
		if err != nil {
			return err
		}
		out[lost[i]].Holder = holder
	}
	return nil
}

func (c *redisClaimer) keysOf(a *Attempt) *mapKeys {
	if k, ok := c.keys.Load(mapID{a.Hunt, a.Tick}); ok {
		return k.(*mapKeys)
	}
	tag := fmt.Sprintf("{%s/%d}", a.Hunt, a.Tick)
	k, _ := c.keys.LoadOrStore(mapID{a.Hunt, a.Tick}, &mapKeys{tiles: tag + ":tiles", claims: tag + ":claims", board: BoardKey(a.Hunt)})
	return k.(*mapKeys)
}

// Prepare implements [Claimer]. Redis needs to know nothing of a map.
func (c *redisClaimer) Prepare(context.Context, ...*Map) error { return nil }

// Tally implements [Claimer].
func (c *redisClaimer) Tally(ctx context.Context) (t Tally, err error) {
	var errs []error
	count := func(cmd rueidis.Completed) int64 {
		n, err := c.client.Do(ctx, cmd).AsInt64()
		errs = append(errs, err)
		return n
	}
	c.keys.Range(func(_, v any) bool {
		k := v.(*mapKeys)
		t.Tiles += count(c.client.B().Hlen().Key(k.tiles).Build())
		t.Events += count(c.client.B().Xlen().Key(k.claims).Build())
		return true
	})
	if err := errors.Join(errs...); err != nil {
		return Tally{}, fmt.Errorf("peer: Redis: %w", err)
	}
	return t, nil
}

// Reset implements [Claimer].
func (c *redisClaimer) Reset(ctx context.Context) error {
	c.keys.Clear()
	if err := c.client.Do(ctx, c.client.B().Flushall().Sync().Build()).Error(); err != nil {
		return fmt.Errorf("peer: Redis: %w", err)
	}
	return nil
}

// Stats implements [Claimer]. On Redis nothing is tried twice.
func (c *redisClaimer) Stats() Stats { return Stats{} }

// Close implements [Claimer].
func (c *redisClaimer) Close() error {
	c.client.Close()
	return nil
}
