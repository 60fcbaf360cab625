package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/ledger/pgtest"
	"github.com/veltrix/cairn/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

// tests end with the PostgreSQL server that they shared.
type tests struct{ *testing.M }

func (m tests) Run() int {
	defer pgtest.StopShared()
	return m.M.Run()
}

const (
	shards = 4
	ticks  = 12
	tiles  = 200
	tick0  = 1_760_000_000 // of the first map; a tick is a second
	name   = cairn.HuntID("oslo-winter")
)

// A claimed is a claim with its place in the logs.
type claimed struct {
	cairn.Claim
	cairn.Place
}

func (c claimed) offset() eventlog.Offset { return eventlog.Offset{Epoch: c.Epoch, Seq: c.Seq} }

// A world is a data folder with a little history in it, made by the real log
// and the real ledger, and what the test knows of it.
type world struct {
	t    testing.TB
	dir  string
	dsn  string // of a ledger elsewhere; "" for the file in dir
	rnd  *rand.Rand
	hunt cairn.Hunt
	maps []*cairn.Map  // by tick
	won  []claimed     // by shard, then in the log's order
	free []cairn.Claim // claims that could still be made, by tick
}

func (w *world) logs() string   { return filepath.Join(w.dir, "log") }
func (w *world) ledger() string { return filepath.Join(w.dir, "ledger.db") }

func (w *world) ledgerDSN() string {
	if w.dsn != "" {
		return w.dsn
	}
	return "sqlite:" + w.ledger()
}

// newWorld makes the history: a hunt goes live, maps are emitted, players
// claim tiles in several epochs a shard, and the ledger settles it all.
func newWorld(t testing.TB) *world {
	w := &world{t: t, dir: t.TempDir(), rnd: rand.New(rand.NewPCG(1, 2))}
	store := w.openLogs()
	defer store.Close()
	specs := []eventlog.Spec{{Name: eventlog.Maps}, {Name: eventlog.Control}, {Name: eventlog.Standings, Volatile: true}}
	for i := range shards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	if err := store.Provision(t.Context(), specs...); err != nil {
		t.Fatal(err)
	}
	region := cairn.CellOfBits(0, 0)
	w.hunt = cairn.Hunt{
		Name: name, Region: cairn.Region{Geohash: &region}, TilesPerMap: tiles, Shards: shards,
		Reward: cairn.Reward{Min: 100, Max: 5000, Budget: 50_000_000},
	}.WithDefaults()
	w.change(store,
		cairn.Change{Key: "abcd"},
		cairn.Change{Hunt: name, Create: &w.hunt},
		cairn.Change{Hunt: name, State: cairn.Live},
		cairn.Change{Knob: "sweep", Value: "50ms"})
	for i := range ticks {
		w.maps = append(w.maps, w.newMap(name, tick0+cairn.Tick(i), w.prev()))
	}
	w.emit(store, w.maps...)
	w.play(store)
	w.append(store, eventlog.Standings, wire.AppendBoard(nil, &wire.Board{BoardKey: wire.BoardKey{Hunt: name}}))
	w.settle(store)
	w.atRest()
	return w
}

// atRest waits until the ledger's file has all that is in its write-ahead log.
// A connection whose context ended is closed a moment after the ledger.
func (w *world) atRest() {
	w.t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	again := time.Now().Add(2 * time.Second)
	for deadline := time.Now().Add(time.Minute); ; <-poll.C {
		_, err := os.Stat(w.ledger() + "-wal")
		if os.IsNotExist(err) {
			return
		}
		if time.Now().After(again) { // the last connection could not fold it: another does
			again = time.Now().Add(2 * time.Second)
			l, err := ledger.Open(w.t.Context(), "sqlite:"+w.ledger(), ledger.Options{})
			if err != nil {
				w.t.Fatal(err)
			}
			l.Close()
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the ledger's write-ahead log is still there: %v", err)
		}
	}
}

// copy returns a world of its own with the same folder.
func (w *world) copy(t *testing.T) *world {
	c := *w
	c.t, c.dir, c.rnd = t, t.TempDir(), rand.New(rand.NewPCG(3, 4))
	c.free = slices.Clone(w.free)
	if err := os.CopyFS(c.dir, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	return &c
}

func (w *world) openLogs() *filelog.Store {
	w.t.Helper()
	s, err := filelog.Open(w.logs(), filelog.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// append takes a log over and appends one record a body; it returns the last
// one's offset.
func (w *world) append(store eventlog.Store, log eventlog.Name, bodies ...[]byte) (o eventlog.Offset) {
	w.t.Helper()
	wr, err := store.Open(context.Background(), log)
	if err != nil {
		w.t.Fatal(err)
	}
	defer wr.Close()
	for _, b := range bodies {
		if o, err = wr.Append(context.Background(), b, eventlog.Offset{}); err != nil {
			w.t.Fatal(err)
		}
	}
	return o
}

func (w *world) change(store eventlog.Store, cs ...cairn.Change) (o eventlog.Offset) {
	w.t.Helper()
	for i := range cs {
		cs[i].Who, cs[i].When = "ana", cairn.Instant(tick0*1_000_000)
		b, err := wire.AppendChange(nil, &cs[i])
		if err != nil {
			w.t.Fatal(err)
		}
		o = w.append(store, eventlog.Control, b)
	}
	return o
}

func (w *world) prev() cairn.Digest {
	if len(w.maps) == 0 {
		return cairn.Digest{}
	}
	return w.maps[len(w.maps)-1].Digest
}

func (w *world) newMap(hunt cairn.HuntID, tick cairn.Tick, prev cairn.Digest) *cairn.Map {
	opens := cairn.InstantOf(time.Unix(int64(tick), 0))
	m := &cairn.Map{MapHeader: cairn.MapHeader{
		Hunt: hunt, Tick: tick, Opens: opens, Closes: opens.Add(time.Duration(w.hunt.Lifetime)),
		Shards: shards, Tiles: w.hunt.TilesPerMap, Budget: w.hunt.Reward.Budget, Prev: prev,
	}}
	for range w.hunt.TilesPerMap {
		r := cairn.Micro(100 + w.rnd.IntN(4900))
		m.Offer += r
		m.Tiles = append(m.Tiles, cairn.Tile{Cell: cairn.CellOfBits(w.rnd.Uint64N(1<<35), 7), Reward: r, Puzzle: cairn.Tap})
	}
	m.Digest = wire.MapDigest(m)
	return m
}

// emit appends maps, and returns the offset of the last one's header.
func (w *world) emit(store eventlog.Store, ms ...*cairn.Map) eventlog.Offset {
	w.t.Helper()
	var bodies [][]byte
	for _, m := range ms {
		for first := 0; first < len(m.Tiles); first += wire.TilesPerChunk {
			bodies = append(bodies, wire.AppendMapChunk(nil, m, first))
		}
		bodies = append(bodies, wire.AppendMapHeader(nil, &m.MapHeader))
	}
	return w.append(store, eventlog.Maps, bodies...)
}

// claimOf makes the claim of a tile that is right in every way.
func (w *world) claimOf(m *cairn.Map, tile int, at cairn.Instant) (claim cairn.Claim, shard int) {
	player := w.rnd.IntN(12)
	c := cairn.Claim{
		TileRef: cairn.TileRef{Hunt: m.Hunt, Tick: m.Tick, Tile: uint32(tile)},
		Cell:    m.Tiles[tile].Cell, Reward: m.Tiles[tile].Reward,
		Player: cairn.PlayerID(fmt.Sprintf("p%02d", player)), Name: fmt.Sprintf("Åse %d", player), At: at, ID: "x",
	}
	return c, shardOf(m, tile)
}

func shardOf(m *cairn.Map, tile int) int {
	return cairn.ShardOf(cairn.SlotterOf(m.Hunt, m.Tick).Slot(uint32(tile)), m.Shards)
}

// play claims four tiles of five, one or two in a record, in the order of
// time, and takes each shard over between two maps.
func (w *world) play(store eventlog.Store) {
	w.t.Helper()
	won := make([][]claimed, shards)
	for _, m := range w.maps {
		at := m.Opens
		byShard := make([][]cairn.Claim, shards)
		for _, tile := range w.rnd.Perm(tiles) {
			at += cairn.Instant(w.rnd.IntN(5000))
			c, shard := w.claimOf(m, tile, at)
			if w.rnd.IntN(5) == 0 {
				w.free = append(w.free, c)
				continue
			}
			byShard[shard] = append(byShard[shard], c)
		}
		for shard, cs := range byShard {
			won[shard] = append(won[shard], w.claim(store, shard, cs)...)
		}
	}
	w.won = slices.Concat(won...)
}

// claim takes a shard over and appends claims, a few in a record.
func (w *world) claim(store eventlog.Store, shard int, cs []cairn.Claim) []claimed {
	w.t.Helper()
	return w.claimBy(store, shard, cs, func() int { return 1 + w.rnd.IntN(2) })
}

func (w *world) claimBy(store eventlog.Store, shard int, cs []cairn.Claim, each func() int) (won []claimed) {
	w.t.Helper()
	wr, err := store.Open(context.Background(), eventlog.Shard(shard))
	if err != nil {
		w.t.Fatal(err)
	}
	defer wr.Close()
	for len(cs) > 0 {
		n := min(each(), len(cs))
		o, err := wr.Append(context.Background(), wire.AppendClaims(nil, cs[:n]), wr.Fence())
		if err != nil {
			w.t.Fatal(err)
		}
		for i, c := range cs[:n] {
			won = append(won, claimed{c, cairn.Place{Shard: shard, Epoch: o.Epoch, Seq: o.Seq, Index: i}})
		}
		cs = cs[n:]
	}
	return won
}

// settle runs the ledger until it has settled all shards.
func (w *world) settle(store eventlog.Store) {
	w.t.Helper()
	l, err := ledger.Open(w.t.Context(), w.ledgerDSN(), ledger.Options{CommitEvery: time.Millisecond})
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, store) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Fatal(err)
		}
	}()
	deadline := time.After(time.Minute)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !w.isSettled(l, store) {
		select {
		case <-poll.C:
		case <-deadline:
			w.t.Fatalf("not settled within a minute: %v", l.Ready())
		}
	}
}

func (w *world) isSettled(l *ledger.Ledger, store eventlog.Store) bool {
	m, err := l.Settled(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range shards {
		if st, err := store.Status(context.Background(), eventlog.Shard(i)); err != nil || st.Last != m[i] {
			return false
		}
	}
	return true
}

// verify does what `cairn verify` does with a data folder.
func (w *world) verify(opts Options) *Report {
	w.t.Helper()
	store, err := filelog.Open(w.logs(), filelog.Options{ReadOnly: true})
	if err != nil {
		return OfError(err)
	}
	defer store.Close()
	led, err := ledger.Open(w.t.Context(), w.ledgerDSN(), ledger.Options{ReadOnly: true})
	if err != nil {
		return OfError(err)
	}
	defer led.Close()
	r, err := Verify(w.t.Context(), store, led, opts)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}
