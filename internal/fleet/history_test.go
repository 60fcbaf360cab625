package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// A history is what players were told.
type history struct {
	mu      sync.Mutex
	won     map[cairn.TileRef]told
	gone    []told
	counts  map[string]int
	slowest time.Duration // of the attempts that were decided
}

type told struct {
	ref    cairn.TileRef
	player cairn.PlayerID // whose it is
	place  cairn.Place
}

// play has players try for tiles of open maps through a gateway until ctx
// ends. A player who won asks again, and must hear the same.
func (w *world) play(ctx context.Context, c *Claims, players int, seed uint64, every time.Duration) {
	var wg sync.WaitGroup
	for i := range players {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for ctx.Err() == nil {
				w.mu.Lock()
				tick, first := w.tick, w.first
				w.mu.Unlock()
				if tick > 0 {
					a := &cairn.Attempt{
						TileRef: cairn.TileRef{Hunt: simHunt, Tick: max(first, tick-cairn.Tick(rng.IntN(3))), Tile: uint32(rng.IntN(simTiles))},
						Player:  cairn.PlayerID(fmt.Sprintf("p%d-%d", seed, i)), Name: "somebody",
					}
					w.try(c, a)
					if rng.IntN(3) == 0 {
						w.try(c, a)
					}
				}
				sleep(ctx, every/2+time.Duration(rng.Int64N(int64(every))))
			}
		})
	}
	wg.Wait()
}

// try makes one attempt and notes what was answered.
func (w *world) try(c *Claims, a *cairn.Attempt) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	began := time.Now()
	v, err := c.Claim(ctx, a)
	took := time.Since(began)
	h := &w.seen
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.counts == nil {
		h.counts, h.won = map[string]int{}, map[cairn.TileRef]told{}
	}
	if err != nil {
		if !errors.Is(err, claim.ErrUnavailable) {
			w.t.Errorf("%v: %v", a.TileRef, err)
		}
		h.counts["unavailable"]++
		return
	}
	h.counts[v.Outcome.String()]++
	t := told{a.TileRef, v.Claim.Player, v.Place}
	switch v.Outcome {
	case cairn.Won:
		if before, ok := h.won[a.TileRef]; ok && before != t || v.Claim.Player != a.Player {
			w.t.Errorf("%v: %s hears won as %v, but it was won as %v", a.TileRef, a.Player, t, before)
		}
		h.won[a.TileRef] = t
	case cairn.Gone:
		if v.Claim.Player == a.Player {
			w.t.Errorf("%v: its holder %s hears gone", a.TileRef, a.Player)
		}
		h.gone = append(h.gone, t)
	}
	if v.Outcome != cairn.Pending {
		h.slowest = max(h.slowest, took)
	}
}

// check compares what players were told with the logs.
func (w *world) check() {
	w.t.Helper()
	log := map[cairn.TileRef]told{}
	for shard := range simShards {
		w.foldLog(shard, log)
	}
	h := &w.seen
	h.mu.Lock()
	defer h.mu.Unlock()
	for ref, t := range h.won {
		if log[ref] != t {
			w.t.Errorf("%v: told won as %v, the log has %v", ref, t, log[ref])
		}
	}
	for _, t := range h.gone {
		if log[t.ref] != t {
			w.t.Errorf("%v: told gone as %v, the log has %v", t.ref, t, log[t.ref])
		}
	}
}

// foldLog reads a shard's log to its end. A tile that is granted twice fails
// the test.
func (w *world) foldLog(shard int, log map[cairn.TileRef]told) {
	name := eventlog.Shard(shard)
	st, err := w.store.Status(w.t.Context(), name)
	must(w.t, err)
	f, err := w.store.Follow(w.t.Context(), name, st.Base)
	must(w.t, err)
	defer f.Close()
	last := cairn.Instant(0)
	for at := (eventlog.Offset{}); at.Less(st.Last); {
		recs, _, err := f.Next(w.t.Context())
		must(w.t, err)
		for _, r := range recs {
			if at = r.Offset; r.Kind != eventlog.Data {
				continue
			}
			claims, err := wire.DecodeClaims(nil, r.Body)
			must(w.t, err)
			for i, c := range claims {
				if was, ok := log[c.TileRef]; ok {
					w.t.Errorf("%v: granted to %s, and to %s before", c.TileRef, c.Player, was.player)
				}
				if c.At < last {
					w.t.Errorf("%v: claimed at %v, behind one at %v", c.TileRef, c.At, last)
				}
				last = c.At
				log[c.TileRef] = told{c.TileRef, c.Player, cairn.Place{Shard: shard, Epoch: r.Offset.Epoch, Seq: r.Offset.Seq, Index: i}}
			}
		}
	}
}
