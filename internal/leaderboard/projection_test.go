package leaderboard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
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
func (g *game) run(p *Projection) (stop func() error) {
	ctx, cancel := context.WithCancel(g.t.Context())
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

func (g *game) encode(p *Projection) []byte {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.fold.encode(p.live.genesis)
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

var oslo = wire.BoardKey{Hunt: "oslo"}

// While claims come in on all shards, every board in the standings log equals
// the sum of the claims up to its as_of, and the last one has them all.
func TestPublishedBoardsEqualFold(t *testing.T) {
	g := newGame(t)
	reg := prometheus.NewRegistry()
	p := New(g.store, Options{Publish: time.Millisecond, Metrics: reg})
	stop := g.run(p)
	defer stop()
	until(t, "it is ready", func() bool { return p.Ready() == nil })

	var players sync.WaitGroup
	for shard := range testShards {
		players.Go(func() { g.play(shard, 60, rand.New(rand.NewPCG(uint64(shard), 1))) })
	}
	reading, read := context.WithCancel(t.Context())
	players.Go(func() { g.look(reading, p) })

	f, err := g.store.Follow(t.Context(), eventlog.Standings, eventlog.Offset{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	boards := g.boards(f)
	read()
	players.Wait()
	windows := map[wire.Window]int{}
	for _, b := range boards {
		logs := g.upTo(b.AsOf)
		want, newest := naiveBoard(logs, b.BoardKey)
		if !slices.Equal(b.Rows, want[:min(len(want), RowsPublished)]) || b.Players != len(want) || b.Newest != newest {
			t.Fatalf("board %+v as of %v:\ngot  %+v\nwant %+v", b.BoardKey, b.AsOf, b.Rows, want)
		}
		if b.Published < b.Newest {
			t.Errorf("published at %v, before its newest claim at %v", b.Published, b.Newest)
		}
		windows[b.Window]++
	}
	if windows[wire.WindowHunt] == 0 || windows[wire.WindowHour] == 0 {
		t.Errorf("got boards %v, want both windows", windows)
	}
	until(t, "all is published", func() bool { return p.Lag() == 0 })
	until(t, "each claim's lag is observed once", func() bool { return lagCount(t, reg) == uint64(g.claims()) })
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// boards reads the standings log until a board has all claims that are to come.
func (g *game) boards(f eventlog.Follower) (out []*wire.Board) {
	const records = testShards * 61 // 60 batches and a fence each
	for {
		recs, _, err := f.Next(g.t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		for _, r := range recs {
			if r.Kind != eventlog.Data {
				continue
			}
			b, err := wire.DecodeBoard(r.Body)
			if err != nil {
				g.t.Fatal(err)
			}
			out = append(out, b)
			have := 0
			for _, log := range g.upTo(b.AsOf) {
				have += len(log)
			}
			if have == records && b.Window == wire.WindowHunt {
				return out
			}
		}
	}
}

// look reads boards, as clients do, while they change.
func (g *game) look(ctx context.Context, p *Projection) {
	for ctx.Err() == nil {
		b, ok := p.Standings(oslo, 10)
		if !ok {
			g.t.Error("no board")
			return
		}
		for i, row := range b.Rows {
			if row.Rank != i+1 || i > 0 && row.Score > b.Rows[i-1].Score {
				g.t.Errorf("rows out of order: %+v", b.Rows)
				return
			}
		}
		if a, ok := p.Around(oslo, "p007", 3); ok && !slices.ContainsFunc(a.Rows, func(r wire.Row) bool { return r.Player == "p007" }) {
			g.t.Errorf("around p007 without p007: %+v", a.Rows)
			return
		}
		p.Lag()
	}
}

func lagCount(t *testing.T, reg *prometheus.Registry) uint64 {
	t.Helper()
	return metric(t, reg, "cairn_standings_lag_seconds").GetHistogram().GetSampleCount()
}

func metric(t *testing.T, reg *prometheus.Registry, name string) *dto.Metric {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f.Metric[0]
		}
	}
	t.Fatalf("no metric %s", name)
	return nil
}

func TestAroundAndRegions(t *testing.T) {
	g := newGame(t)
	for shard := range testShards {
		g.play(shard, 50, rand.New(rand.NewPCG(9, uint64(shard))))
	}
	p := New(g.store, Options{})
	stop := g.run(p)
	defer stop()
	g.folded(p)
	all, _ := p.Standings(oslo, RowsMax)
	if all.Players != len(all.Rows) || len(all.Rows) < 100 {
		t.Fatalf("%d rows of %d players, want all", len(all.Rows), all.Players)
	}
	for i, row := range all.Rows {
		got, ok := p.Around(oslo, row.Player, 2)
		if want := all.Rows[max(0, i-2):min(len(all.Rows), i+3)]; !ok || !slices.Equal(got.Rows, want) {
			t.Fatalf("around rank %d: got %+v, want %+v", i+1, got.Rows, want)
		}
	}
	if _, ok := p.Around(oslo, "nobody", 2); ok {
		t.Error("a player without a claim has a row")
	}
	if b, ok := p.Standings(wire.BoardKey{Hunt: "none"}, 5); !ok || len(b.Rows) != 0 {
		t.Errorf("a hunt without claims: got %v, %v, want an empty board", b, ok)
	}
	sum := 0
	for _, sub := range "0123456789bcdefghjkmnpqrstuvwxyz" {
		b, ok := p.Standings(wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs" + string(sub))}, RowsMax)
		if !ok {
			t.Fatalf("no board of u4xs%c", sub)
		}
		for _, row := range b.Rows {
			sum += row.Claims
		}
	}
	if sum != g.claims() {
		t.Errorf("regions have %d claims, want %d", sum, g.claims())
	}
	key := wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs000")}
	if _, ok := p.Standings(key, 5); ok {
		t.Error("a region finer than the rule has a board")
	}
	var field *cairn.FieldError
	if err := p.Check(key); !errors.As(err, &field) || field.Field != "region" {
		t.Errorf("Check: got %v, want a FieldError of region", err)
	}
	// A regional board that was asked for is published from then on.
	watched := wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs0")}
	p.Standings(watched, 1)
	f, err := g.store.Follow(t.Context(), eventlog.Standings, eventlog.Offset{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g.play(0, 300, rand.New(rand.NewPCG(9, 9)))
	for found := false; !found; {
		recs, _, err := f.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			if r.Kind == eventlog.Data {
				b, err := wire.DecodeBoard(r.Body)
				if err != nil {
					t.Fatal(err)
				}
				if b.Region.Precision() > watched.Region.Precision() {
					t.Fatalf("region %v is published, and nobody looks at it", b.Region)
				}
				found = found || b.BoardKey == watched
			}
		}
	}
}

// A projection that is stopped and started again is a fold from scratch, with
// and without a checkpoint, and when the logs were trimmed to what it covers.
func TestRestartFromCheckpoint(t *testing.T) {
	g := newGame(t)
	path := filepath.Join(t.TempDir(), "leaderboard")
	for round := range 4 {
		p := New(g.store, Options{Checkpoint: path, CheckpointEvery: 5 * time.Millisecond})
		stop := g.run(p)
		for shard := range testShards {
			g.play(shard, 20, rand.New(rand.NewPCG(uint64(round), uint64(shard))))
		}
		g.folded(p)
		if !bytes.Equal(g.encode(p), g.fromScratch(p)) {
			t.Fatalf("round %d: not a fold from scratch", round)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		b, err := p.files.read(path)
		if err != nil || !bytes.Equal(b, g.fromScratch(p)) {
			t.Fatalf("round %d: the checkpoint written at the end is not a fold from scratch (%v)", round, err)
		}
		durable := p.Durable()
		if round > 0 && len(durable) != testShards {
			t.Fatalf("round %d: %d shards are durable, want all", round, len(durable))
		}
		for shard, o := range durable {
			if err := g.store.Trim(t.Context(), eventlog.Shard(shard), o); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The newest is damaged: the one before it and the logs do.
	writeFile(t, vfs.Default, path, []byte("damaged"))
	p := New(g.store, Options{Checkpoint: path})
	stop := g.run(p)
	g.folded(p)
	if !bytes.Equal(g.encode(p), g.fromScratch(p)) {
		t.Fatal("from the older checkpoint: not a fold from scratch")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// Neither is there, and the logs are trimmed: that is said.
	p = New(g.store, Options{})
	if err := p.Run(t.Context()); !errors.Is(err, eventlog.ErrTrimmed) || !strings.Contains(err.Error(), "checkpoint must be brought back") {
		t.Errorf("Run: got %v, want ErrTrimmed and what to do", err)
	}
	if err := p.Ready(); !errors.Is(err, eventlog.ErrTrimmed) {
		t.Errorf("Ready: got %v, want what ended Run", err)
	}
}

// A checkpoint of other logs is passed over.
func TestCheckpointOfOtherStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leaderboard")
	for range 2 {
		g := newGame(t)
		g.play(0, 5, rand.New(rand.NewPCG(1, 1)))
		p := New(g.store, Options{Checkpoint: path})
		stop := g.run(p)
		g.folded(p)
		if !bytes.Equal(g.encode(p), g.fromScratch(p)) {
			t.Error("not a fold from scratch")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// Of two projections the later publishes. When it is gone, the earlier one,
// which kept folding, takes over with the next claim.
func TestStandby(t *testing.T) {
	g := newGame(t)
	opts := Options{Publish: time.Millisecond, Takeover: 50 * time.Millisecond}
	publishing := func(reg *prometheus.Registry) bool {
		return metric(t, reg, "cairn_standings_publishing").GetGauge().GetValue() == 1
	}
	var regs [2]*prometheus.Registry
	var ps [2]*Projection
	var stops [2]func() error
	for i := range ps {
		regs[i] = prometheus.NewRegistry()
		opts.Metrics = regs[i]
		ps[i] = New(g.store, opts)
		stops[i] = g.run(ps[i])
		defer stops[i]()
		until(t, "it publishes", func() bool { return publishing(regs[i]) })
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	until(t, "the first stands by", func() bool { g.play(0, 1, rnd); return !publishing(regs[0]) })
	g.play(1, 50, rnd)
	g.folded(ps[0])
	if publishing(regs[0]) || !publishing(regs[1]) {
		t.Error("two publish at once, or none")
	}
	if err := stops[1](); err != nil {
		t.Fatal(err)
	}
	until(t, "the first has taken over", func() bool { g.play(2, 1, rnd); return publishing(regs[0]) })
}

// A faultStore is a store whose followers and writers fail when told to.
type faultStore struct {
	eventlog.Store
	follow chan error // the next Follower.Next of a shard returns it, after it has its records
	append chan error // the next append to the standings log does not happen and returns it
}

func (s *faultStore) Follow(ctx context.Context, log eventlog.Name, after eventlog.Offset) (eventlog.Follower, error) {
	f, err := s.Store.Follow(ctx, log, after)
	if err != nil || !strings.HasPrefix(string(log), "s0") {
		return f, err
	}
	return &faultFollower{f, s}, nil
}

func (s *faultStore) Open(ctx context.Context, log eventlog.Name) (eventlog.Writer, error) {
	w, err := s.Store.Open(ctx, log)
	return &faultWriter{w, s}, err
}

type faultFollower struct {
	eventlog.Follower
	s *faultStore
}

func (f *faultFollower) Next(ctx context.Context) ([]eventlog.Record, eventlog.Offset, error) {
	recs, mark, err := f.Follower.Next(ctx)
	select {
	case err := <-f.s.follow:
		return nil, eventlog.Offset{}, err
	default:
		return recs, mark, err
	}
}

type faultWriter struct {
	eventlog.Writer
	s *faultStore
}

func (w *faultWriter) Append(ctx context.Context, body []byte, from eventlog.Offset) (eventlog.Offset, error) {
	select {
	case err := <-w.s.append:
		return eventlog.Offset{}, err
	default:
		return w.Writer.Append(ctx, body, from)
	}
}

// A log that diverged, and appends that failed in each way, leave the boards
// right and published.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name           string
		follow, append error
	}{
		{"diverged", eventlog.ErrDiverged, nil},
		{"unknown", nil, eventlog.ErrUnknown},
		{"pushback", nil, eventlog.ErrPushback},
		{"fenced", nil, eventlog.ErrFenced},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGame(t)
			faults := &faultStore{g.store, make(chan error, 1), make(chan error, 1)}
			p := New(faults, Options{Publish: time.Millisecond, Takeover: 20 * time.Millisecond, Checkpoint: filepath.Join(t.TempDir(), "lb"), CheckpointEvery: time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
			stop := g.run(p)
			defer stop()
			rnd := rand.New(rand.NewPCG(1, 1))
			for i := range 30 {
				if i%10 == 5 {
					g.folded(p)
					if c.follow != nil {
						faults.follow <- c.follow
					} else if c.append != eventlog.ErrFenced {
						faults.append <- c.append
					} else if w, err := g.store.Open(t.Context(), eventlog.Standings); err != nil {
						t.Fatal(err) // it publishes nothing, and is gone
					} else {
						w.Close()
					}
				}
				g.play(i%testShards, 2, rnd)
			}
			until(t, "the faults are used up", func() bool {
				return len(faults.follow) == 0 && len(faults.append) == 0
			})
			g.play(0, 1, rnd)
			g.folded(p)
			if !bytes.Equal(g.encode(p), g.fromScratch(p)) {
				t.Error("not a fold from scratch")
			}
			want, _ := p.Standings(oslo, RowsPublished)
			f, err := g.store.Follow(t.Context(), eventlog.Standings, eventlog.Offset{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for found := false; !found; {
				recs, _, err := f.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range recs {
					if r.Kind != eventlog.Data {
						continue
					}
					b, err := wire.DecodeBoard(r.Body)
					if err != nil {
						t.Fatal(err)
					}
					found = found || b.BoardKey == oslo && slices.Equal(b.AsOf, want.AsOf) && slices.Equal(b.Rows, want.Rows)
				}
			}
			if err := stop(); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// A record that does not decode ends Run and is named.
func TestDamagedRecord(t *testing.T) {
	g := newGame(t)
	o, err := g.writers[2].Append(t.Context(), []byte("nonsense"), eventlog.Offset{})
	if err != nil {
		t.Fatal(err)
	}
	err = New(g.store, Options{}).Run(t.Context())
	if !errors.Is(err, wire.ErrMalformed) || !strings.Contains(err.Error(), "s02 at "+o.String()) {
		t.Errorf("got %v, want ErrMalformed at s02 %v", err, o)
	}
}
