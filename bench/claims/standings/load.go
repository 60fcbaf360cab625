//go:build unix

package standings

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn/bench/claims/world"
)

// A system is what grants tiles and keeps boards of who won them.
type system interface {
	// claim decides the attempts of a batch, all of which are to win, and
	// appends what it knows of the wins but the times.
	claim(ctx context.Context, as []attempt, wins []win) ([]win, error)

	// observers returns who sees boards where they are published, and at the
	// clients; none without boards.
	observers() (published, clients []*observer)

	// close ends all that belongs to it.
	close() error
}

// An attempt is the try for a tile that nobody else tries for.
type attempt struct {
	hunt   int
	m      int // number of the hunt's map
	tile   int
	player int
}

// A field is the tiles that attempts are for: maps of the same size, as many
// in each hunt. Attempts go round the hunts, so that all are as busy.
type field struct {
	hunts, maps, tiles, players int
}

// fieldOf returns a field of at least n tiles.
func fieldOf(o *Options, n int) field {
	perHunt := (n + o.Hunts - 1) / o.Hunts
	tiles := min(perHunt, o.Tiles)
	return field{o.Hunts, (perHunt + tiles - 1) / tiles, tiles, o.Players}
}

func (f field) size() int { return f.hunts * f.maps * f.tiles }

func (f field) attempt(i int) attempt {
	hunt, i := i%f.hunts, i/f.hunts
	// Any player may come next, and each comes as often.
	return attempt{hunt, i / f.tiles, i % f.tiles, int(uint32(i+hunt*7919) * 2654435761 % uint32(f.players))}
}

func huntName(i int) string   { return fmt.Sprintf("hunt-%d", i) }
func playerName(i int) string { return fmt.Sprintf("player-%06d", i) }

// names returns the names of n things, so that none is made while it is timed.
func names(n int, of func(int) string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = of(i)
	}
	return out
}

// A clock counts nanoseconds from its start.
type clock struct{ start time.Time }

func (c clock) now() int64 { return time.Since(c.start).Nanoseconds() }

// A shift is one load that was put on a system.
type shift struct {
	wins    []win
	seconds float64 // it took, the warm-up aside
}

// after returns the wins that were received at a moment or later.
func after(wins []win, from int64) []win {
	return slices.DeleteFunc(slices.Clone(wins), func(w win) bool { return w.receipt < from })
}

// pace sends attempts at a rate for a time, after a warm-up: every millisecond
// those that are due, as one batch. Receipt is when they were due, so that a
// stall can't hide. last is told the newest wins, those of the warm-up too.
func pace(ctx context.Context, s system, f field, c clock, rate float64, warm, d time.Duration) (_ *shift, last places, err error) {
	const callers = 256
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	batches := make(chan [2]int, 1<<16) // a second's and more: what is due never waits for a caller unseen
	var mu sync.Mutex
	var all []win
	var wg sync.WaitGroup
	began := c.now()
	due := func(i int) int64 { return began + int64(float64(i)/rate*1e9) }
	for range callers {
		wg.Go(func() {
			var as []attempt
			var own []win
			for b := range batches {
				as = as[:0]
				for i := b[0]; i < b[1]; i++ {
					as = append(as, f.attempt(i))
				}
				n := len(own)
				var err error
				if own, err = s.claim(ctx, as, own); err != nil {
					cancel(err)
					continue
				}
				at := c.now()
				for i := range own[n:] {
					own[n+i].receipt, own[n+i].answered = due(b[0]+i), at
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
		})
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	total := min(int(rate*(warm+d).Seconds()), f.size())
	for sent := 0; sent < total && ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
			upTo := min(total, int(float64(c.now()-began)/1e9*rate))
			if upTo > sent {
				batches <- [2]int{sent, upTo}
				sent = upTo
			}
		}
	}
	seconds := float64(c.now()-began)/1e9 - warm.Seconds()
	close(batches)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	return &shift{after(all, began+warm.Nanoseconds()), seconds}, newest(all), nil
}

// saturate has callers send batch after batch until the time is over or the
// tiles are.
func saturate(ctx context.Context, s system, f field, c clock, callers, batch int, d time.Duration) (*shift, places, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var all []win
	var next atomic.Int64
	var wg sync.WaitGroup
	began := c.now()
	until := began + d.Nanoseconds()
	for range callers {
		wg.Go(func() {
			as := make([]attempt, batch)
			var own []win
			for ctx.Err() == nil && c.now() < until {
				i := int(next.Add(int64(batch))) - batch
				if i+batch > f.size() {
					break
				}
				for j := range as {
					as[j] = f.attempt(i + j)
				}
				n, at := len(own), c.now()
				var err error
				if own, err = s.claim(ctx, as, own); err != nil {
					cancel(err)
					break
				}
				now := c.now()
				for j := range own[n:] {
					own[n+j].receipt, own[n+j].answered = at, now
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	return &shift{all, float64(c.now()-began) / 1e9}, newest(all), nil
}

// latency returns how long claims took.
func (s *shift) latency() Quantiles {
	h := newHistogram()
	for i := range s.wins {
		record(h, s.wins[i].answered-s.wins[i].receipt)
	}
	return quantiles(h)
}

func (s *shift) rate() float64 { return float64(len(s.wins)) / s.seconds }

// rewardOf is what a tile carries, the same everywhere.
func rewardOf(a attempt) int64 { return int64(world.Reward(a.tile)) }
