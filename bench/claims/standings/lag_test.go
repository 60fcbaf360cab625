//go:build unix

package standings

import (
	"fmt"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
)

const ms = int64(time.Millisecond)

func at(shard int, epoch, seq uint64) place {
	return place{shard, eventlog.Offset{Epoch: epoch, Seq: seq}}
}

// TestLag: a claim's lag ends with the first board that reflects its record,
// at every observer of its hunt and no other.
func TestLag(t *testing.T) {
	quick, slow, other := &observer{hunt: 0}, &observer{hunt: 0}, &observer{hunt: 1}
	quick.saw(10*ms, []place{at(0, 1, 3), at(1, 1, 1)})
	quick.saw(20*ms, []place{at(0, 1, 5), at(1, 1, 1)})
	quick.saw(30*ms, []place{at(0, 2, 0), at(1, 1, 9)}) // a takeover: another epoch
	slow.saw(100*ms, []place{at(0, 2, 0), at(1, 1, 9)})
	other.saw(5*ms, []place{at(0, 9, 9), at(1, 9, 9)})
	for _, tt := range []struct {
		place
		first float64 // ms, at quick
	}{
		{at(0, 1, 1), 10}, {at(0, 1, 3), 10}, {at(0, 1, 4), 20}, {at(0, 1, 6), 30}, {at(1, 1, 1), 10}, {at(1, 1, 2), 30},
	} {
		wins := []win{{hunt: 0, place: tt.place, receipt: 2 * ms, answered: 15 * ms}}
		got, err := lagOf(wins, []*observer{quick, slow, other})
		if err != nil {
			t.Fatal(err)
		}
		// Two observers: the median is the first's, the largest the other's.
		want := lag{FromReceipt: Quantiles{N: 2, P50: tt.first - 2, Max: 98}, FromAnswer: Quantiles{N: 2, P50: max(0, tt.first-15), Max: 85}}
		for what, q := range map[string][2]Quantiles{"receipt": {got.FromReceipt, want.FromReceipt}, "answer": {got.FromAnswer, want.FromAnswer}} {
			if q[0].N != q[1].N || !near(q[0].P50, q[1].P50) || !near(q[0].Max, q[1].Max) {
				t.Errorf("%v from the %s: got %+v, want %+v", tt.place, what, q[0], q[1])
			}
		}
	}
	if _, err := lagOf([]win{{hunt: 0, place: at(1, 1, 10)}}, []*observer{quick}); err == nil {
		t.Error("a claim that no board has: got no error")
	}
	if _, err := lagOf([]win{{hunt: 0, place: at(2, 0, 1)}}, []*observer{quick}); err == nil {
		t.Error("a claim of a shard that no board has: got no error")
	}
}

// near allows for the histogram's three digits.
func near(a, b float64) bool { return a-b <= 0.002*b && b-a <= 0.002*b }

// TestSettled: an observer has what its newest board reflects, of every shard.
func TestSettled(t *testing.T) {
	o := &observer{}
	last := newest([]win{{place: at(0, 1, 2)}, {place: at(3, 1, 9)}, {place: at(0, 1, 1)}, {hunt: 1, place: at(7, 1, 1)}})
	for i, tt := range []struct {
		saw  []place
		want bool
	}{
		{nil, false},
		{[]place{at(0, 1, 2)}, false},
		{[]place{at(0, 1, 2), at(3, 1, 8)}, false},
		{[]place{at(0, 1, 3), at(2, 5, 5), at(3, 1, 9)}, true},
	} {
		if tt.saw != nil {
			o.saw(int64(i), tt.saw)
		}
		if got := o.has(last[0]); got != tt.want {
			t.Errorf("after %v: got %v, want %v", tt.saw, got, tt.want)
		}
	}
	if !o.has(nil) {
		t.Error("a hunt without a claim: got that it has not all, want that it has")
	}
}

// TestField: every tile is tried for once, all hunts are as busy, and players
// come as often as one another.
func TestField(t *testing.T) {
	o := &Options{Hunts: 3, Players: 50, Tiles: 40}
	f := fieldOf(o, 300)
	if f.size() < 300 || f.tiles > 40 {
		t.Fatalf("got %+v, want at least 300 tiles, 40 a map at most", f)
	}
	seen, players := map[string]bool{}, map[int]int{}
	for i := range f.size() {
		a := f.attempt(i)
		if a.hunt != i%3 || a.m < 0 || a.m >= f.maps || a.tile < 0 || a.tile >= f.tiles {
			t.Fatalf("attempt %d: got %+v, want hunt %d and a tile of %+v", i, a, i%3, f)
		}
		key := fmt.Sprint(a.hunt, a.m, a.tile)
		if seen[key] {
			t.Fatalf("attempt %d is the second for tile %s", i, key)
		}
		seen[key] = true
		players[a.player]++
	}
	if len(players) < 40 {
		t.Errorf("got %d players in %d attempts, want nearly all of 50", len(players), f.size())
	}
}

// TestReport: all that is measured is in the tables, a system that was left out
// is not, and the plots are drawn.
func TestReport(t *testing.T) {
	q := Quantiles{N: 1, P50: 1, P99: 2, P999: 3, Max: 4}
	r := &Report{Hunts: 1, Players: 1, Clients: 1, Rate: 20_000, Seconds: 1}
	for _, s := range []string{OursRedis, View} {
		for _, load := range loadsOf(s) {
			r.Runs = append(r.Runs, &Measured{System: s, Load: load, Rate: 200, Latency: q},
				&Measured{System: s, Load: load, Board: true, Rate: 100, Latency: q, Published: &lag{q, q}, Client: &lag{q, q}})
		}
	}
	got := r.Markdown()
	for _, want := range []string{
		"| ours-redis | 100 | 1.0 | 2.0 | 3.0 (3.0–3.0) | 1.0 | 2.0 | 3.0 (3.0–3.0) | 3.0 |",
		"| ours-redis | 1.00 | 1.00 | 2.00 | 2.00 | 200 (200–200) | 100 (100–100) | 0.50× |",
		"| materialised-view |  |  |  |  | 200 (200–200) | 100 (100–100) | 0.50× |",
	} {
		if !contains(got, want) {
			t.Errorf("got\n%s\nwant in it\n%s", got, want)
		}
	}
	if contains(got, "| zset") {
		t.Error("the ZSET was not measured, and is in the table")
	}
	if err := r.Plots(t.TempDir()); err != nil {
		t.Error(err)
	}
}
