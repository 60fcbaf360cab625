package leaderboard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

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
	for _, b := range boards {
		logs := g.upTo(b.AsOf)
		want, newest := naiveBoard(logs, b.BoardKey)
		if !slices.Equal(b.Rows, want[:min(len(want), RowsPublished)]) || b.Players != len(want) || b.Newest != newest {
			t.Fatalf("board %+v as of %v:\ngot  %+v\nwant %+v", b.BoardKey, b.AsOf, b.Rows, want)
		}
		if b.Published < b.Newest {
			t.Errorf("published at %v, before its newest claim at %v", b.Published, b.Newest)
		}
	}
	until(t, "all is published", func() bool { return p.Lag() == 0 })
	until(t, "each claim's lag is observed once", func() bool { return lagCount(t, reg) == uint64(g.claims()) })
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// boards reads the standings log until a board of each window has all claims
// that are to come. In a round they come one after the other.
func (g *game) boards(f eventlog.Follower) (out []*wire.Board) {
	const records = testShards * 61 // 60 batches and a fence each
	whole := map[wire.Window]bool{}
	for {
		recs, _, err := f.Next(g.t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		for _, r := range recs {
			if r.Kind != eventlog.Data {
				continue
			}
			bs, err := wire.DecodeBoards(r.Body)
			if err != nil {
				g.t.Fatal(err)
			}
			out = append(out, bs...)
			for _, b := range bs {
				have := 0
				for _, log := range g.upTo(b.AsOf) {
					have += len(log)
				}
				if have == records {
					whole[b.Window] = true
				}
			}
			if len(whole) == 2 {
				return out
			}
		}
	}
}

// look reads boards, as clients do, while they change.
func (g *game) look(ctx context.Context, p *Projection) {
	for ctx.Err() == nil {
		b, err := p.standings(oslo, 10)
		if err != nil {
			g.t.Errorf("no board: %v", err)
			return
		}
		for i, row := range b.Rows {
			if row.Rank != i+1 || i > 0 && row.Score > b.Rows[i-1].Score {
				g.t.Errorf("rows out of order: %+v", b.Rows)
				return
			}
		}
		if a, err := p.around(oslo, "p007", 3); err == nil && a != nil && !slices.ContainsFunc(a.Rows, func(r wire.Row) bool { return r.Player == "p007" }) {
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

// metric returns the value of a metric, or of the one whose label has the value
// given in braces.
func metric(t testing.TB, reg *prometheus.Registry, name string) *dto.Metric {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	name, label, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	for _, f := range all {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m
			}
		}
	}
	t.Fatalf("no metric %s of %q", name, label)
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
	all, _ := p.standings(oslo, RowsMax)
	if all.Players != len(all.Rows) || len(all.Rows) < 100 {
		t.Fatalf("%d rows of %d players, want all", len(all.Rows), all.Players)
	}
	for i, row := range all.Rows {
		got, err := p.around(oslo, row.Player, 2)
		if want := all.Rows[max(0, i-2):min(len(all.Rows), i+3)]; err != nil || got == nil || !slices.Equal(got.Rows, want) {
			t.Fatalf("around rank %d: got %+v (%v), want %+v", i+1, got, err, want)
		}
	}
	if b, err := p.around(oslo, "nobody", 2); b != nil || err != nil {
		t.Error("a player without a claim has a row")
	}
	if b, err := p.standings(wire.BoardKey{Hunt: "none"}, 5); err != nil || len(b.Rows) != 0 {
		t.Errorf("a hunt without claims: got %v, %v, want an empty board", b, err)
	}
	sum := 0
	for _, sub := range "0123456789bcdefghjkmnpqrstuvwxyz" {
		b, err := p.standings(wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs" + string(sub))}, RowsMax)
		if err != nil {
			t.Fatalf("no board of u4xs%c: %v", sub, err)
		}
		for _, row := range b.Rows {
			sum += row.Claims
		}
	}
	if sum != g.claims() {
		t.Errorf("regions have %d claims, want %d", sum, g.claims())
	}
	key := wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs000")}
	var field *cairn.FieldError
	if _, _, err := p.Standings(t.Context(), key, 5); !errors.As(err, &field) || field.Field != "region" {
		t.Errorf("a region finer than the rule: got %v, want a FieldError of region", err)
	}
	if _, _, err := p.Around(t.Context(), key, "p007", 5); !errors.As(err, &field) || field.Field != "region" {
		t.Errorf("around, in a region finer than the rule: got %v, want a FieldError of region", err)
	}
	// A regional board that was asked for is published from then on.
	watched := wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs0")}
	_, _ = p.standings(watched, 1)
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
				bs, err := wire.DecodeBoards(r.Body)
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range bs {
					if b.Region.Precision() > watched.Region.Precision() {
						t.Fatalf("region %v is published, and nobody looks at it", b.Region)
					}
					found = found || b.BoardKey == watched
				}
			}
		}
	}
}

// A regional board is put in order when it is asked for, and says the same
// before and after; one that nobody asks for is not.
func TestBoardsAreInOrderOnceAskedFor(t *testing.T) {
	p := New(nil, Options{Now: func() time.Time { return (1000 * hour).Time() }})
	for i := range 3 * fewMax {
		c := cairn.Claim{
			TileRef: cairn.TileRef{Hunt: "world", Tile: uint32(i)}, Cell: mustCell("u4xs"), At: 1000 * hour, Reward: cairn.Micro(i * 7919 % 100),
			Player: cairn.PlayerID(fmt.Sprint("p", i)), Name: "p",
		}
		p.fold.testApply(t, testRecord{rec: eventlog.Record{Offset: eventlog.Offset{Epoch: 1, Seq: uint64(i + 1)}}, claims: []cairn.Claim{c}})
	}
	key, other := wire.BoardKey{Hunt: "world", Region: mustCell("u4")}, wire.BoardKey{Hunt: "world", Region: mustCell("u4x")}
	for _, k := range []wire.BoardKey{key, other} {
		b, err := p.fold.find(k)
		if err != nil || !b.loose() {
			t.Fatalf("%+v: in order, or %v; want that nobody asked", k, err)
		}
	}
	b, _ := p.fold.find(key)
	want := p.fold.snapshot(key, b, RowsMax)
	got, _, err := p.Standings(t.Context(), key, RowsMax)
	if err != nil || !slices.Equal(got.Rows, want.Rows) || len(got.Rows) != 3*fewMax {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	around, _, err := p.Around(t.Context(), other, "p7", 3)
	if err != nil || len(around.Rows) < 4 || !slices.ContainsFunc(want.Rows, func(r wire.Row) bool { return r == around.Rows[0] }) {
		t.Errorf("around p7: got %v, %v; want rows of %v", around, err, want.Rows)
	}
	for _, k := range []wire.BoardKey{key, other} {
		if b, _ := p.fold.find(k); b.loose() {
			t.Errorf("%+v: asked for, and not in order", k)
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
