package leaderboard

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/wire"
)

const testShards = 4

// A game is a store with its logs, and writers of the shards.
type game struct {
	t     *testing.T
	store eventlog.Store

	mu      sync.Mutex
	writers [testShards]eventlog.Writer
	logs    [testShards][]testRecord // what was appended
	tile    uint32
}

func newGame(t *testing.T) *game {
	t.Helper()
	// Registered first, so that it runs when all else of the test has ended.
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	ctx := t.Context()
	store, err := filelog.Open("game", filelog.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	g := &game{t: t, store: store}
	specs := []eventlog.Spec{{Name: eventlog.Control}, {Name: eventlog.Maps}, {Name: eventlog.Standings, Volatile: true}}
	for i := range testShards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	if err := store.Provision(ctx, specs...); err != nil {
		t.Fatal(err)
	}
	w, err := store.Open(ctx, eventlog.Control)
	if err != nil {
		t.Fatal(err)
	}
	cell := mustCell("u4xs")
	h := cairn.Hunt{Name: "oslo", Region: cairn.Region{Geohash: &cell}, Reward: cairn.Reward{Max: 5}}.WithDefaults()
	body, err := wire.AppendChange(nil, &cairn.Change{Who: "op", Hunt: "oslo", Create: &h})
	if err == nil {
		_, err = w.Append(ctx, body, eventlog.Offset{})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	for i := range g.writers {
		g.writers[i] = g.open(i)
	}
	return g
}

func (g *game) open(shard int) eventlog.Writer {
	w, err := g.store.Open(g.t.Context(), eventlog.Shard(shard))
	if err != nil {
		g.t.Error(err)
		return nil
	}
	g.mu.Lock()
	g.logs[shard] = append(g.logs[shard], testRecord{shard: shard, rec: eventlog.Record{Offset: w.Fence(), Kind: eventlog.Fence}})
	g.mu.Unlock()
	return w
}

// play appends so many batches to one shard.
func (g *game) play(shard, batches int, rnd *rand.Rand) {
	for range batches {
		var claims []cairn.Claim
		for range 1 + rnd.IntN(5) {
			claims = append(claims, cairn.Claim{
				TileRef: cairn.TileRef{Hunt: "oslo", Tick: cairn.Tick(shard), Tile: atomic.AddUint32(&g.tile, 1)},
				Cell:    cairn.CellOfBits(mustCell("u4xs").Bits()<<20|rnd.Uint64N(1<<20), 8),
				Reward:  cairn.Micro(rnd.IntN(4)) * 100,
				Player:  cairn.PlayerID(fmt.Sprintf("p%03d", rnd.IntN(200))),
				Name:    fmt.Sprintf("name %d", rnd.IntN(9)),
				At:      cairn.InstantOf(time.Now()),
			})
		}
		o, err := g.writers[shard].Append(g.t.Context(), wire.AppendClaims(nil, claims), eventlog.Offset{})
		if err != nil {
			g.t.Error(err)
			return
		}
		g.mu.Lock()
		g.logs[shard] = append(g.logs[shard], testRecord{shard: shard, rec: eventlog.Record{Offset: o, Kind: eventlog.Data}, claims: claims})
		g.mu.Unlock()
	}
}

// upTo returns the logs up to some offsets.
func (g *game) upTo(asOf []wire.ShardOffset) [][]testRecord {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([][]testRecord, testShards)
	for _, s := range asOf {
		for _, r := range g.logs[s.Shard] {
			if r.rec.Offset.Compare(s.Offset) <= 0 {
				out[s.Shard] = append(out[s.Shard], r)
			}
		}
	}
	return out
}

// claims returns how many claims were appended.
func (g *game) claims() (n int) {
	for _, log := range g.logs {
		for _, r := range log {
			n += len(r.claims)
		}
	}
	return n
}

// run runs p until the returned function is called, which returns Run's error.
func (g *game) run(p *Projection) (stop func() error) { return runIn(g.t.Context(), p) }

func runIn(ctx context.Context, p *Projection) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
}

// until polls a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}

// folded waits until p has folded all that was appended.
func (g *game) folded(p *Projection) {
	g.t.Helper()
	until(g.t, "all is folded", func() bool {
		if p.Ready() != nil {
			return false
		}
		p.mu.RLock()
		defer p.mu.RUnlock()
		g.mu.Lock()
		defer g.mu.Unlock()
		for i, log := range g.logs {
			if p.fold.shards[i].offset.Less(log[len(log)-1].rec.Offset) {
				return false
			}
		}
		return true
	})
}

// encode returns the encoding of p's fold, between the checkpoints that p takes:
// there is one cut of a fold at a time.
func (g *game) encode(p *Projection) (b []byte) {
	g.t.Helper()
	until(g.t, "no checkpoint is being taken", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.fold.cut != nil {
			return false
		}
		b = p.fold.encode(p.live.genesis)
		return true
	})
	return b
}

// fromScratch returns the encoding of a fold of all that was appended, and of
// the genesis of each log.
func (g *game) fromScratch(p *Projection) []byte {
	f := newFold(testRules)
	for shard, log := range g.logs {
		f.testApply(g.t, testRecord{shard: shard, rec: eventlog.Record{Offset: eventlog.GenesisOffset, Kind: eventlog.Genesis}})
		for _, r := range log {
			f.testApply(g.t, r)
		}
	}
	return f.encode(p.live.genesis)
}
