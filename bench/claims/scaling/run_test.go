//go:build unix

package scaling

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/claims/world"
)

// TestScene: every tile of every map is tried for as often as it should be, by
// different players, and attempts on one tile are apart.
func TestScene(t *testing.T) {
	s := sceneOf(5, 2*5*window, 3)
	type tile struct {
		hunt cairn.HuntID
		tick cairn.Tick
		tile uint32
	}
	players, last := map[tile]map[cairn.PlayerID]bool{}, map[tile]int{}
	var a cairn.Attempt
	for i := range s.size() {
		s.attempt(i, &a)
		k := tile{a.Hunt, a.Tick, a.Tile}
		if int(a.Tile) >= s.tiles {
			t.Fatalf("attempt %d is for tile %d; want below %d", i, a.Tile, s.tiles)
		}
		if players[k] == nil {
			players[k] = map[cairn.PlayerID]bool{}
		} else if i-last[k] < window {
			t.Fatalf("attempt %d comes %d behind another on its tile; want at least %d", i, i-last[k], window)
		}
		players[k][a.Player], last[k] = true, i
	}
	if len(players) != 2*5*window {
		t.Errorf("got %d tiles, want %d", len(players), 2*5*window)
	}
	for k, p := range players {
		if len(p) != 3 {
			t.Fatalf("tile %v: got %d players, want 3", k, len(p))
		}
	}
}

// TestRecovery: a rate is measured, and a shard whose log was written comes back
// with all its claims; nothing is left running.
func TestRecovery(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx := t.Context()
	s := sceneOf(2, 4*window, 2)
	o := world.Options{Dir: t.TempDir(), Shards: 1, Hunts: s.hunts, Idle: true}
	w, err := world.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Emit(ctx, s.all(1)...); err != nil {
		t.Fatal(err)
	}
	first := sceneOf(2, 4*window, 1) // the first attempt on each tile
	first.maps = s.maps
	if err := fill(ctx, w, first, first.size()/2, 100); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	o.Again = true
	if w, err = world.Open(ctx, o); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := recovered(ctx, w, first, first.size()/2); err != nil {
		t.Error(err)
	}
	took, won, seconds, err := play(ctx, w, s, 4, 100)
	if err != nil {
		t.Fatal(err)
	}
	// Half of the tiles have a holder, who is the first of those who try now: it
	// hears that it won, again.
	if want := s.size() / s.contenders; won != want {
		t.Errorf("got %d won, want %d: one a tile", won, want)
	}
	if int(took.TotalCount()) != s.size() || seconds <= 0 {
		t.Errorf("got %d attempts in %v s, want %d", took.TotalCount(), seconds, s.size())
	}
}

// TestReport: what is measured is in the tables, with its line, and is drawn.
func TestReport(t *testing.T) {
	r := &Report{Contenders: 8, Callers: 2, Batch: 10, MapsAlways: 8, ShardsFix: 24}
	for _, log := range backends {
		for _, n := range []int{1, 24} {
			r.Rates = append(r.Rates, &Rate{Log: log, Shards: n, Maps: 8, PerSecond: 1e6 / float64(n), P99: 5})
		}
		for _, n := range []int{1, 100} {
			r.Rates = append(r.Rates, &Rate{Log: log, Shards: 24, Maps: n, PerSecond: 2e6 / float64(n), P99: 7})
		}
		r.Logs = append(r.Logs, &Growth{Log: log, Bytes: []Point{{100, 5000}, {200, 9000}}, ClaimsARecord: 16})
		for _, n := range []int{1000, 3000} {
			r.Recoveries = append(r.Recoveries, &Recovery{Log: log, Claims: n, Replay: float64(n) / 1e6})
		}
	}
	r.TileHeap, r.ClaimHeap = []Point{{10, 100}, {20, 300}}, []Point{{10, 400}, {20, 500}}
	got := r.Markdown()
	for _, want := range []string{
		"| 24 | 41667 (41667–41667) | 5.00 |",
		"| 100 | 20000 (20000–20000) | 7.00 |",
		"| an attempt, redis | 0.0000 µs + 1.0000 µs a shard, R² 1.000 | 1 | 24 |",
		"| the engine's heap | -100.0 B + 20.0 B a tile, R² 1.000 | 10 | 20 |",
		"| a log on filelog, 16.0 claims a record | 1000.0 B + 40.0 B a claim, R² 1.000 | 100 | 200 |",
		"| taking over a shard, redis | 0.000 ms + 1.000 ms a 1,000 claims, R² 1.000 | 1 | 3 |",
		"| 3000 | 3.0 | 3.0 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant in it\n%s", got, want)
		}
	}
	dir := t.TempDir()
	if err := r.Plots(dir); err != nil {
		t.Error(err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "claims-*.png")); len(files) != 4 {
		t.Errorf("got %v, want four plots", fmt.Sprint(files))
	}
}
