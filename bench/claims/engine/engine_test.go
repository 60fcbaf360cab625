//go:build unix

package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/veltrix/cairn/bench/claims/peer"
)

// TestRun: ours and a peer take attempts for a moment, and all that was won is
// found where it is kept.
func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	r, err := Run(t.Context(), Options{
		Contenders: []string{OursRedis, "ours-filelog", Lua}, Workloads: []string{Hot, Uniform}, Rounds: 1,
		Warm: 10 * time.Millisecond, Measure: 20 * time.Millisecond, Load: 20 * time.Millisecond, Idle: 5, Size: 64,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Results) != 6 || len(r.Idle) != 1 {
		t.Fatalf("%d results and %d at idle; want 6 and 1", len(r.Results), len(r.Idle))
	}
	for _, x := range r.Results {
		if x.Attempts == 0 || x.Wins == 0 {
			t.Errorf("%s: %d wins of %d attempts; want some", x, x.Wins, x.Attempts)
		}
	}
	if got := len(r.Summary()); got != 6 {
		t.Errorf("%d figures; want one a contender and workload, 6", got)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {Rounds: 1, Contenders: []string{"nobody"}}, {Rounds: 1, Workloads: []string{"none"}},
	} {
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%+v: got %v; want an error that says what would be right", o, err)
		}
	}
}

// TestWorkloads: a list is the same each time, of whatever length, and the
// share of first tries for a tile, which win, does not change along it.
func TestWorkloads(t *testing.T) {
	const n = 6 * triesAtOnce
	for _, name := range Workloads() {
		a, err := newWorkload(name, n)
		if err != nil {
			t.Fatal(err)
		}
		b, err := newWorkload(name, n/2)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.ops[:n/2], b.ops) {
			t.Errorf("%s: a shorter list is another", name)
		}
		firsts, maps := [2]int{}, a.maps(n)
		seen := make([]bool, maps*tilesAMap)
		for i, o := range a.ops {
			if int(o.tile) >= tilesAMap || int(o.player) >= players || int(o.m) >= maps {
				t.Fatalf("%s: attempt %d is %+v", name, i, o)
			}
			if !seen[o.tileID()] {
				seen[o.tileID()] = true
				firsts[i/(n/2)]++
			}
		}
		if d := firsts[0] - firsts[1]; max(d, -d) > firsts[0]/20+1 {
			t.Errorf("%s: %d tiles in one half and %d in the other; want about as many", name, firsts[0], firsts[1])
		}
	}
}

// TestHot: all players try for one tile, each once, and then for another.
func TestHot(t *testing.T) {
	w, err := newWorkload(Hot, 3*players)
	if err != nil {
		t.Fatal(err)
	}
	tiles := map[tileID]bool{}
	for part := range slices.Chunk(w.ops, players) {
		who := map[uint16]bool{}
		for _, o := range part {
			who[o.player] = true
			tiles[o.tileID()] = true
		}
		if len(who) != players {
			t.Errorf("%d players; want all %d", len(who), players)
		}
	}
	if len(tiles) != 3 {
		t.Errorf("%d tiles; want 3", len(tiles))
	}
}

// kept is a system that has kept some claims.
type kept struct {
	claims []op
	system
}

func (k kept) facts(_ context.Context, fact func(tileID, int) error) (int, error) {
	for _, c := range k.claims {
		if err := fact(c.tileID(), int(c.player)); err != nil {
			return 0, err
		}
	}
	return len(k.claims), nil
}

func TestCheck(t *testing.T) {
	a, b, other := op{tile: 1, player: 1}, op{tile: 1, player: 2}, op{tile: 2, player: 3}
	ops := []op{a, b, other, a}
	for _, c := range []struct {
		name  string
		marks []mark
		kept  []op
		want  string // of the error; "" is none
	}{
		{"two tiles", []mark{won, lost, won, won}, []op{a, other}, ""},
		{"two winners", []mark{won, won, lost, lost}, []op{a}, "both player-1 and player-2 won"},
		{"one that is not kept", []mark{won, lost, won, lost}, []op{a}, "1 claims are kept, of 2"},
		{"one that nobody heard of", []mark{won, lost, lost, lost}, []op{a, other}, "who was not told so"},
		{"another's", []mark{won, lost, lost, lost}, []op{b}, "who was not told so"},
		{"one that is kept twice", []mark{won, lost, lost, lost}, []op{a, a}, "claimed twice"},
		{"no answer", []mark{won, unanswered, won, lost}, []op{a, other}, "was not decided"},
		{"an error", []mark{won, failed, won, lost}, []op{a, other}, "was not decided"},
	} {
		s := newScene(&workload{ops: ops})
		wins, err := check(t.Context(), kept{claims: c.kept}, s, c.marks)
		switch {
		case c.want == "" && (err != nil || wins != 2):
			t.Errorf("%s: got %d wins, %v; want 2", c.name, wins, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v; want %q", c.name, err, c.want)
		}
	}
}

func sample() *Report {
	r := &Report{Equal: map[string]float64{Uniform: 80_000}, Idle: []*Lone{{Claim: quantiles{P50: 60}, XADD: quantiles{P50: 40}}}}
	add := func(name string, rate, p99 float64, own bool, stats *peer.Stats) {
		for i := range 3 {
			r.Results = append(r.Results, &Result{
				Name: name, Workload: Uniform, Round: i + 1, Callers: 8, Size: 128, Attempts: 1000, Wins: 430, Stats: stats, Own: own,
				Flat: throughput{PerSecond: rate * float64(i+1), P99: 1000}, Load: response{Offered: 80_000, P50: p99 / 4, P99: p99 + float64(i)},
			})
		}
	}
	add(OursRedis, 1e6, 500, false, nil)
	add(Lua, 80_000, 4000, false, nil)
	add(Postgres, 5000, 30_000, true, &peer.Stats{Deadlocks: 1, Retries: 2})
	return r
}

func TestMarkdown(t *testing.T) {
	got := sample().Markdown()
	for _, want := range []string{
		"43% of attempts win. Equal load: 80k attempts/s.",
		"| `ours-redis`: one Redis | 2.00M (1.00M–3.00M) | 12× | 200× | 8 × 128 | 1.0 ms | 125 µs | 501 µs (500 µs–502 µs) | 0.13× |",
		"| (7.5 ms at 80k/s) | (30.0 ms (30.0 ms–30.0 ms)) |  |",
		"so 1.50×",
		"| `postgres` | uniform | 3 | 0 | 6 | 0.2% |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant %q in it", got, want)
		}
	}
	if want, got := (Figure{OursRedis, Uniform, 2e6, 125, 501, 3}), sample().Summary()[0]; got != want {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

func TestPlots(t *testing.T) {
	dir := t.TempDir()
	if err := sample().Plots(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"claims-rate.png", "claims-p99.png"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v; want a picture", name, err)
		}
	}
}

func TestFastest(t *testing.T) {
	tried := []Tried{{PerSecond: 90, P99: 1}, {PerSecond: 100, P99: 9}, {PerSecond: 96, P99: 5}, {PerSecond: 97, P99: 6}}
	if got := fastest(tried); got != tried[2] {
		t.Errorf("got %+v; want as fast as any, and the lowest p99: %+v", got, tried[2])
	}
}

// TestNames: the figures have the names that others look for.
func TestNames(t *testing.T) {
	want := "[ours-redis ours-filelog ours-cluster lua function multi postgres]"
	if got := fmt.Sprint(Names(false)); got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}
