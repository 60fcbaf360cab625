package leaderboard

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
)

// bigLogs makes logs with enough players for trees, and so steps of copying.
func bigLogs(rnd *rand.Rand, shards, records, players int) [][]testRecord {
	logs := testLogs(rnd, shards, records)
	for _, log := range logs {
		for i := range log {
			for j := range log[i].claims {
				c := &log[i].claims[j]
				c.Player = cairn.PlayerID(fmt.Sprintf("p%d", rnd.IntN(players)))
				c.Tile = rnd.Uint32N(cairn.TilesPerMapMax)
				c.At = 500_000*hour + c.At%hour // so that hours are not dropped before they have a tree
			}
		}
	}
	return logs
}

// A cut encodes the fold as it was when it began, to the byte, whatever is
// folded between its steps: claims of players copied and not yet copied, new
// players, new boards, hours and levels dropped, hunts that end.
func TestCutIsOfItsInstant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		shards := rapid.IntRange(1, 4).Draw(t, "shards")
		players := rapid.SampledFrom([]int{5, 40, 2000}).Draw(t, "players")
		logs := bigLogs(rnd, shards, rapid.SampledFrom([]int{10, 100, 800}).Draw(t, "records"), players)
		bound := rapid.SampledFrom([]int{20_000, 100_000, 64 << 20}).Draw(t, "bound")
		begun := rapid.IntRange(0, 90).Draw(t, "begun")
		genesis := testGenesis(shards)
		f, twin := newFold(rules{2, bound}), newFold(rules{2, bound})
		rest := slices.Clone(logs)
		for i, log := range logs {
			n := len(log) * begun / 100
			for _, r := range log[:n] {
				f.testApply(t, r)
				twin.testApply(t, r)
			}
			rest[i] = log[n:]
		}
		want := twin.encode(genesis)
		next := func() {
			rest = slices.DeleteFunc(rest, func(l []testRecord) bool { return len(l) == 0 })
			if len(rest) == 0 {
				return
			}
			i := rnd.IntN(len(rest))
			f.testApply(t, rest[i][0])
			twin.testApply(t, rest[i][0])
			rest[i] = rest[i][1:]
		}
		step := max(1, rapid.IntRange(0, 30).Draw(t, "step"))
		got := f.begin(genesis).encode(func(do func()) {
			for range rnd.IntN(step) {
				next()
			}
			if rnd.IntN(40) == 0 {
				f.ended("world", f.newest-endedFor-2*minute)
				twin.ended("world", f.newest-endedFor-2*minute)
			}
			do()
		})
		if !bytes.Equal(got, want) {
			t.Fatalf("got %d bytes, want the %d of the fold at the beginning", len(got), len(want))
		}
		// And the fold is none the worse for it.
		for len(rest) > 0 {
			next()
		}
		f.checkAll(t)
		if got, want := f.encode(genesis), twin.encode(genesis); !bytes.Equal(got, want) {
			t.Fatalf("after the cut: got %d bytes, want %d", len(got), len(want))
		}
	})
}

// What a cut saved is let go.
func TestCutLeavesNothingBehind(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	f := foldLogs(t, bigLogs(rnd, 2, 600, 500), rnd.IntN)
	more := bigLogs(rnd, 2, 600, 500)
	f.begin(nil).encode(func(do func()) {
		for i := range more {
			if len(more[i]) > 0 {
				f.testApply(t, more[i][0])
				more[i] = more[i][1:]
			}
		}
		do()
	})
	if f.cut != nil {
		t.Error("the fold has a cut that has ended")
	}
	f.boards(func(b *board) {
		if b.saved != nil {
			t.Errorf("%+v has a saved copy", b.key())
		}
	})
	for _, h := range f.hunts {
		if h.saved != nil {
			t.Errorf("%s has saved players", h.id)
		}
	}
}

// BenchmarkCheckpoint measures how long folding stands still for a checkpoint
// with 50 claims folded before each step, as 20,000 a second might be.
func BenchmarkCheckpoint(b *testing.B) {
	for _, players := range []int{10_000, 131_072, 1_048_576} {
		for _, levels := range []int{0, 2} {
			b.Run(fmt.Sprintf("players=%d/levels=%d", players, levels), func(b *testing.B) {
				f, more := benchFold(players, rules{levels, 1 << 40})
				runtime.GC()
				var longest, sum time.Duration
				steps, n := 0, 0
				for b.Loop() {
					hold := func(do func()) {
						began := time.Now()
						do()
						d := time.Since(began)
						longest, sum = max(longest, d), sum+d
						steps++
					}
					var c *cut
					hold(func() { c = f.begin(nil) })
					n = len(c.encode(func(do func()) { more(); hold(do) }))
				}
				b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
				b.ReportMetric(float64(sum.Microseconds())/float64(steps), "step-µs")
				b.ReportMetric(float64(steps)/float64(b.N), "steps")
				b.ReportMetric(float64(n), "B")
			})
		}
	}
}
