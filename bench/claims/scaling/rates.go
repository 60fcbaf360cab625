//go:build unix

package scaling

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/claims/world"
	"github.com/veltrix/cairn/internal/claim"
)

// A Rate is attempts on one world, as many as it can take.
type Rate struct {
	Log       string  `json:"log"`
	Shards    int     `json:"shards"`
	Maps      int     `json:"maps"`
	Round     int     `json:"round"`
	Attempts  int     `json:"attempts"`
	Won       int     `json:"won"`
	PerSecond float64 `json:"attempts_per_s"`
	P50       float64 `json:"p50_ms"` // of a batch, from when it was put until all of it was answered
	P99       float64 `json:"p99_ms"`
}

// mapsAHunt is how many maps a hunt has open by default: one a second for 30 s.
const mapsAHunt = 30

// A scene is maps of one size, in hunts, and the attempts on their tiles.
type scene struct {
	hunts      []cairn.HuntID
	maps       []mapID
	tiles      int // of a map
	contenders int
	players    []string
}

type mapID struct {
	hunt cairn.HuntID
	tick cairn.Tick
}

// sceneOf returns a scene of n maps with so many tiles together, or a few less.
func sceneOf(n, tiles, contenders int) *scene {
	s := &scene{tiles: tiles / n, contenders: contenders, players: make([]string, 10_000)}
	first := world.Newest()
	for i := range n {
		if i%mapsAHunt == 0 {
			s.hunts = append(s.hunts, cairn.HuntID(fmt.Sprintf("hunt-%d", i/mapsAHunt)))
		}
		s.maps = append(s.maps, mapID{s.hunts[i/mapsAHunt], first - cairn.Tick(i%mapsAHunt)})
	}
	for i := range s.players {
		s.players[i] = fmt.Sprintf("player-%06d", i)
	}
	return s
}

// window is how many tiles are tried for at a time: between two attempts on one
// tile there are as many on others.
const window = 1024

// attempt fills in attempt number i of size.
func (s *scene) attempt(i int, a *cairn.Attempt) {
	rank := i/(window*s.contenders)*window + i%window
	contender := i / window % s.contenders
	m := s.maps[rank%len(s.maps)]
	a.Hunt, a.Tick, a.Tile = m.hunt, m.tick, uint32(rank/len(s.maps))
	p := s.players[(rank*31+contender*7919)%len(s.players)]
	a.Player, a.Name = cairn.PlayerID(p), p
}

// size is how many attempts there are: of whole windows.
func (s *scene) size() int { return len(s.maps) * s.tiles / window * window * s.contenders }

func (s *scene) all(shards int) []*cairn.Map {
	ms := make([]*cairn.Map, len(s.maps))
	for i, m := range s.maps {
		ms[i] = world.Map(m.hunt, m.tick, s.tiles, shards)
	}
	return ms
}

// rates measures attempts against shards and against live maps, in each round
// all sizes, each round from another on.
func (b *bench) rates(ctx context.Context, r *Report) error {
	o := b.opts
	type size struct{ shards, maps int }
	var sizes []size
	for _, n := range o.Shards {
		sizes = append(sizes, size{n, o.MapsAlways})
	}
	for _, n := range o.Maps {
		sizes = append(sizes, size{o.ShardsFix, n})
	}
	for round := range o.Rounds {
		for i := range sizes {
			x := sizes[(i+round)%len(sizes)]
			for _, backend := range backends {
				m, err := b.rate(ctx, backend, x.shards, x.maps)
				if err != nil {
					return fmt.Errorf("%d shards, %d maps on %s: %w", x.shards, x.maps, backend, err)
				}
				m.Round = round
				r.Rates = append(r.Rates, m)
				o.Say("scaling: round %d: %d shards, %d live maps on %s: %.0f attempts/s, p99 %.2f ms", round+1, x.shards, x.maps, backend, m.PerSecond, m.P99)
			}
		}
	}
	return nil
}

func (b *bench) rate(ctx context.Context, backend string, shards, maps int) (_ *Rate, err error) {
	s := sceneOf(maps, b.opts.Tiles, b.opts.Contenders)
	wo, drop, err := b.options(ctx, backend, shards)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, drop()) }()
	wo.Hunts = s.hunts
	w, err := world.Open(ctx, wo)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := w.Emit(ctx, s.all(shards)...); err != nil {
		return nil, err
	}
	runtime.GC()
	m := &Rate{Log: backend, Shards: shards, Maps: maps, Attempts: s.size()}
	h, won, seconds, err := play(ctx, w, s, b.opts.Callers, b.opts.Batch)
	if err != nil {
		return nil, err
	}
	if want := s.size() / s.contenders; won != want {
		return nil, fmt.Errorf("%d claims won; want %d, one a tile", won, want)
	}
	m.Won, m.PerSecond = won, float64(s.size())/seconds
	m.P50, m.P99 = float64(h.ValueAtQuantile(50))/1000, float64(h.ValueAtQuantile(99))/1000
	return m, nil
}

// play puts all attempts of a scene, and returns how long batches took (µs),
// how many won and how many seconds it took.
func play(ctx context.Context, w *world.World, s *scene, callers, batch int) (*hdrhistogram.Histogram, int, float64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, won atomic.Int64
	var mu sync.Mutex
	took := hdrhistogram.New(1, time.Minute.Microseconds(), 3)
	var wg sync.WaitGroup
	began := time.Now()
	for range callers {
		wg.Go(func() {
			own := hdrhistogram.New(1, time.Minute.Microseconds(), 3)
			as := make([]cairn.Attempt, batch)
			done := make(chan struct{}, 1)
			var left atomic.Int64
			answered := func(_ int, a *claim.Answer) {
				switch {
				case a.Err != nil:
					cancel(a.Err)
				case a.Verdict.Outcome == cairn.Won:
					won.Add(1)
				case a.Verdict.Outcome != cairn.Gone:
					cancel(fmt.Errorf("an attempt is answered %v; want won or gone", a.Verdict.Outcome))
				}
				if left.Add(-1) == 0 {
					done <- struct{}{}
				}
			}
			for ctx.Err() == nil {
				i := int(next.Add(int64(batch))) - batch
				n := min(batch, s.size()-i)
				if n <= 0 {
					break
				}
				for j := range n {
					s.attempt(i+j, &as[j])
				}
				left.Store(int64(n))
				start := time.Now()
				w.Service.Submit(ctx, as[:n], answered)
				<-done
				_ = own.RecordValues(min(time.Since(start), time.Minute).Microseconds(), int64(n)) // within its range
			}
			mu.Lock()
			defer mu.Unlock()
			took.Merge(own)
		})
	}
	wg.Wait()
	return took, int(won.Load()), time.Since(began).Seconds(), context.Cause(ctx)
}
