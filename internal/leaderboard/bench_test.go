package leaderboard

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// benchRoot is where the hunt of benchFold lies: two levels of boards.
const benchRoot = "u4"

// benchFold returns a fold in which each player has four claims in this hour
// all over its region, and a way to fold records of 32 more.
func benchFold(players int, r rules) (*fold, func()) {
	rnd := rand.New(rand.NewPCG(1, 2))
	ids := make([]cairn.PlayerID, players)
	for i := range ids {
		ids[i] = cairn.PlayerID(fmt.Sprintf("player-%07d", i))
	}
	f := newFold(r)
	h := f.hunt("world", mustCell(benchRoot))
	claims := make([]cairn.Claim, 32)
	n := 0
	more := func() {
		for i := range claims {
			claims[i] = cairn.Claim{
				TileRef: cairn.TileRef{Hunt: h.id, Tick: cairn.Tick(n / 1000), Tile: uint32(n % 1000)},
				Cell:    cairn.CellOfBits(mustCell(benchRoot).Bits()<<20|rnd.Uint64N(1<<20), 6), Reward: cairn.Micro(100 + rnd.IntN(4901)),
				Player: ids[rnd.IntN(players)], Name: "somebody", At: 1000*hour + cairn.Instant(n),
			}
			n++
		}
		o := eventlog.Offset{Epoch: 1, Seq: uint64(n)}
		rec := eventlog.Record{Offset: o, Kind: eventlog.Data, From: eventlog.Offset{Epoch: 1, Seq: uint64(max(0, n-600_000))}}
		if err := f.apply(0, &rec, claims); err != nil {
			panic(err)
		}
		for _, b := range f.dirty {
			b.dirty = false
		}
		f.dirty = f.dirty[:0]
	}
	for n < 4*players {
		more()
	}
	return f, more
}

// A claim updates six boards: the hunt's and two levels of regions, hunt and hour.
func BenchmarkFoldClaim(b *testing.B) {
	for _, players := range []int{1000, 131_072} {
		b.Run(fmt.Sprintf("players=%d", players), func(b *testing.B) {
			_, more := benchFold(players, testRules)
			b.ReportAllocs()
			for b.Loop() {
				more()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(32*b.N), "ns/claim")
		})
	}
}

func BenchmarkStandings100(b *testing.B) {
	f, _ := benchFold(131_072, testRules)
	key := wire.BoardKey{Hunt: "world"}
	board, err := f.find(key)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		f.snapshot(key, board, 100)
	}
}

// BenchmarkMemory reports the bytes that a player takes on one board.
func BenchmarkMemory(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r, _ := benchRanks(131_072)
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		r.rank(1)
	}
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/131_072, "B/player")
	runtime.KeepAlive(r)
}
