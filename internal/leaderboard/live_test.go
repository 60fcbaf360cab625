package leaderboard

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/wire"
)

// BenchmarkLive is a projection at work: b.N milliseconds of 20,000 claims a
// second by 131,072 players, on 24 shards of a real log, with checkpoints every
// two seconds, five times as often as by default, and a reader. It reports the
// age of claims when they are published, what publishing takes, and how long
// reads take. Run it as -bench Live -benchtime 20000x.
func BenchmarkLive(b *testing.B) {
	const players, shards, perMs = 131_072, 24, 20
	ctx := b.Context()
	store, err := filelog.Open("live", filelog.Options{FS: vfs.NewMem()})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	specs := []eventlog.Spec{{Name: eventlog.Control}, {Name: eventlog.Standings, Volatile: true}}
	for i := range shards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	if err := store.Provision(ctx, specs...); err != nil {
		b.Fatal(err)
	}
	var writers [shards]eventlog.Writer
	for i := range writers {
		if writers[i], err = store.Open(ctx, eventlog.Shard(i)); err != nil {
			b.Fatal(err)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	n := 0
	claims := make([]cairn.Claim, perMs)
	play := func(each func(i int) int) {
		for i := range claims {
			claims[i] = cairn.Claim{
				TileRef: cairn.TileRef{Hunt: "live", Tick: cairn.Tick(n / 50_000), Tile: uint32(n % 50_000)},
				Cell:    cairn.CellOfBits(mustCell(benchRoot).Bits()<<20|rnd.Uint64N(1<<20), 6), Reward: cairn.Micro(100 + rnd.IntN(4901)),
				Player: cairn.PlayerID(fmt.Sprintf("player-%07d", each(n))), Name: "somebody", At: cairn.InstantOf(time.Now()),
			}
			n++
		}
		if _, err := writers[n/perMs%shards].Append(ctx, wire.AppendClaims(nil, claims), eventlog.Offset{}); err != nil {
			b.Fatal(err)
		}
	}
	for n < players {
		play(func(i int) int { return i }) // before it starts: their lag is not observed
	}
	reg := prometheus.NewRegistry()
	p := New(store, Options{Checkpoint: filepath.Join(b.TempDir(), "live"), CheckpointEvery: 2 * time.Second, Metrics: reg})
	stop := runIn(ctx, p)
	for p.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	var reads []time.Duration
	var reader sync.WaitGroup
	quit := make(chan struct{})
	reader.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			case <-time.After(2 * time.Millisecond):
			}
			began := time.Now()
			if i%2 == 0 {
				_, _ = p.standings(wire.BoardKey{Hunt: "live"}, 100)
			} else {
				_, _ = p.around(wire.BoardKey{Hunt: "live"}, cairn.PlayerID(fmt.Sprintf("player-%07d", i*7%players)), 10)
			}
			reads = append(reads, time.Since(began))
		}
	})
	was := n
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for b.Loop() {
		<-tick.C
		play(func(int) int { return rnd.IntN(players) })
	}
	seconds := b.Elapsed().Seconds()
	close(quit)
	reader.Wait()
	for p.Lag() != 0 {
		time.Sleep(time.Millisecond)
	}
	if err := stop(); err != nil {
		b.Fatal(err)
	}
	if len(reads) == 0 {
		return // one iteration, to see how long it takes
	}
	slices.Sort(reads)
	h := metric(b, reg, "cairn_standings_lag_seconds").GetHistogram()
	for _, q := range []float64{.5, .99, .999} {
		for _, k := range h.GetBucket() {
			if float64(k.GetCumulativeCount()) >= q*float64(h.GetSampleCount()) {
				b.ReportMetric(k.GetUpperBound()*1000, fmt.Sprintf("lag-p%v-≤ms", 100*q))
				break
			}
		}
	}
	hold := metric(b, reg, "cairn_standings_checkpoint_hold_seconds").GetHistogram()
	for _, k := range hold.GetBucket() {
		if k.GetCumulativeCount() == hold.GetSampleCount() {
			b.ReportMetric(k.GetUpperBound()*1000, "hold-max-≤ms")
			break
		}
	}
	b.ReportMetric(float64(n-was)/seconds, "claims/s")
	b.ReportMetric(metric(b, reg, "cairn_standings_publishes_total{ok}").GetCounter().GetValue()/seconds, "boards/s")
	b.ReportMetric(metric(b, reg, "cairn_standings_publish_bytes_total").GetCounter().GetValue()/seconds/1000, "kB/s")
	b.ReportMetric(metric(b, reg, "cairn_standings_checkpoints_total{ok}").GetCounter().GetValue(), "checkpoints")
	b.ReportMetric(float64(reads[len(reads)*99/100].Microseconds()), "read-p99-µs")
	b.ReportMetric(float64(reads[len(reads)-1].Microseconds()), "read-max-µs")
}
