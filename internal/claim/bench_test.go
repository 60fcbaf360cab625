package claim

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// BenchmarkSubmit measures attempts decided by a whole Service on a filelog
// with fsync: batches of 256, 64 of them in flight, on one hot tile and on any
// tile of 16 large maps. Each attempt is answered for good when it counts.
func BenchmarkSubmit(b *testing.B) {
	for _, load := range []string{"hot", "uniform"} {
		b.Run(load, func(b *testing.B) {
			w := newWorld(b)
			w.start()
			var ticks []cairn.Tick
			newest := nowTick()
			for i := range 16 {
				tick := newest - cairn.Tick(i)
				w.emitLarge(tick, cairn.TilesPerMapMax)
				ticks = append(ticks, tick)
			}
			w.until("all maps are known", func() bool { return len(w.atlas.Load().layouts) == len(ticks) })
			as := make([][]cairn.Attempt, 512)
			rng := rand.New(rand.NewPCG(1, 2))
			for i := range as {
				for j := range 256 {
					tile, tick := uint32(0), ticks[0]
					if load == "uniform" {
						tile, tick = rng.Uint32N(cairn.TilesPerMapMax), ticks[rng.IntN(len(ticks))]
					}
					as[i] = append(as[i], *w.attempt(tick, tile, fmt.Sprint("player-", (i*256+j)%10_000)))
				}
			}
			flight := make(chan struct{}, 64)
			var wg sync.WaitGroup
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				flight <- struct{}{}
				wg.Add(1)
				var left atomic.Int64
				left.Store(256)
				w.Submit(b.Context(), as[n%len(as)], func(int, *Answer) {
					if left.Add(-1) == 0 {
						<-flight
						wg.Done()
					}
				})
				n++
			}
			wg.Wait()
			b.ReportMetric(256*float64(b.N)/b.Elapsed().Seconds(), "attempts/s")
		})
	}
}

// emitLarge puts a map of n tap tiles into the maps log, open for a minute yet.
func (w *world) emitLarge(tick cairn.Tick, n int) {
	w.t.Helper()
	m := testMap(tick, n, testShards, cairn.Tap)
	m.Opens = cairn.Instant(tick) * 1_000_000
	m.Closes = m.Opens.Add(90 * time.Second)
	m.Digest = wire.MapDigest(m)
	for first := 0; first < n; first += wire.TilesPerChunk {
		_, err := w.maps.Append(w.t.Context(), wire.AppendMapChunk(nil, m, first), eventlog.Offset{})
		w.must(err)
	}
	_, err := w.maps.Append(w.t.Context(), wire.AppendMapHeader(nil, &m.MapHeader), eventlog.Offset{})
	w.must(err)
}

// TestSubmitAllocatesNothing holds the promise that attempts cost no memory:
// what remains of 256 of them is the caller's, and the pool's now and then.
func TestSubmitAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	w.start()
	m := w.emit(nowTick(), cairn.Tap)
	w.claim(w.attempt(m.Tick, 0, "ana"))
	var as []cairn.Attempt
	for i := range 256 {
		as = append(as, *w.attempt(m.Tick, 0, fmt.Sprint("player-", i)))
	}
	var left atomic.Int64
	done := make(chan struct{})
	answered := func(_ int, a *Answer) {
		if a.Err != nil || a.Verdict.Outcome != cairn.Gone {
			t.Errorf("got %v (%v), want gone", a.Verdict.Outcome, a.Err)
		}
		if left.Add(-1) == 0 {
			done <- struct{}{}
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		left.Store(int64(len(as)))
		w.Submit(t.Context(), as, answered)
		<-done
	}); n > 8 {
		t.Errorf("%v allocations for 256 attempts, want next to none", n)
	}
}
