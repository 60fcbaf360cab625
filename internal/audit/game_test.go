package audit

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/leaderboard"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/mapgen"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/wire"
)

// TestGame: what the real rooms write in a game is right in Verify's eyes,
// while it runs, and after it, with two generations of every process.
func TestGame(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	store := w.openLogs()
	w.begin(store)
	var won int64
	for generation := range 2 {
		won += w.game(store, int64(1200+600*generation))
	}
	check(t, store.Close())
	r := w.verify(Options{})
	if !r.OK || len(r.NotVerified) > 0 || r.Claims != won || r.Ledger.Entries+r.Ledger.Behind != won || r.Hunts != 2 {
		t.Errorf("%d claims were won\n%s", won, r)
	}
}

// begin provisions the logs and makes two hunts live: one with plenty, and one
// that soon has nothing left to give.
func (w *world) begin(store eventlog.Store) {
	w.t.Helper()
	specs := []eventlog.Spec{{Name: eventlog.Maps}, {Name: eventlog.Control}, {Name: eventlog.Standings, Volatile: true}}
	for i := range shards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	check(w.t, store.Provision(w.t.Context(), specs...))
	world := cairn.Cell(0)
	for name, h := range map[cairn.HuntID]cairn.Hunt{
		"fast":  {TilesPerMap: 100, Tick: cairn.Duration(100 * time.Millisecond), Lifetime: cairn.Duration(time.Second), Reward: cairn.Reward{Min: 1, Max: 50, Budget: 1_000_000}},
		"broke": {TilesPerMap: 50, Tick: cairn.Duration(200 * time.Millisecond), Lifetime: cairn.Duration(400 * time.Millisecond), Reward: cairn.Reward{Min: 10, Max: 100, Budget: 2000}},
	} {
		h.Name, h.Region, h.Mask, h.Shards = name, cairn.Region{Geohash: &world}, cairn.MaskNone, shards
		h = h.WithDefaults()
		w.change(store, cairn.Change{Hunt: name, Create: &h}, cairn.Change{Hunt: name, State: cairn.Live})
	}
}

// game runs all rooms until enough claims were won, and a verification found
// them, and returns how many.
func (w *world) game(store eventlog.Store, enough int64) (won int64) {
	t := w.t
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	led, claims, end := w.rooms(ctx, store)
	defer end()
	check(t, w.players(ctx, store, claims, func(n int64) bool {
		won = n
		return n < enough
	}))
	// Fewer tiles from here on: the maps before may have as many as they had.
	w.change(store, cairn.Change{Hunt: "fast", TilesPerMap: 10 + int(won%50)})
	r, err := Verify(ctx, store, led, Options{})
	check(t, err)
	if !r.OK || r.Claims < won {
		t.Errorf("while the game runs, with %d won in this generation:\n%s", won, r)
	}
	return won
}

// rooms runs all rooms on store until end is called.
func (w *world) rooms(ctx context.Context, store eventlog.Store) (led *ledger.Ledger, claims *claim.Service, end func()) {
	t := w.t
	led, err := ledger.Open(ctx, w.ledgerDSN(), ledger.Options{})
	check(t, err)
	ctx, cancel := context.WithCancel(ctx)
	claims = claim.New(store, puzzle.New([32]byte{1}), claim.Options{Shards: shards})
	generator := mapgen.New(store, [32]byte{2}, mapgen.Options{})
	board := leaderboard.New(store, leaderboard.Options{})
	var rooms sync.WaitGroup
	for _, run := range []func(context.Context) error{
		claims.Run, generator.Run, board.Run, func(ctx context.Context) error { return led.Run(ctx, store) },
	} {
		rooms.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("a room ended: %v", err)
			}
		})
	}
	return led, claims, func() {
		cancel()
		rooms.Wait()
		check(t, led.Close())
	}
}

// players claim every tile of each map as it opens, two for each, while more
// says so of how many were won.
func (w *world) players(ctx context.Context, store eventlog.Store, claims *claim.Service, more func(won int64) bool) error {
	st, err := store.Status(ctx, eventlog.Maps)
	if err != nil {
		return err
	}
	f, err := store.Follow(ctx, eventlog.Maps, st.Last)
	if err != nil {
		return err
	}
	defer f.Close()
	fold := wire.MapFold{Trimmed: true} // the first may have begun before
	for won := int64(0); more(won); {
		recs, _, err := f.Next(ctx)
		if err != nil {
			return err
		}
		for i := range recs {
			if recs[i].Kind != eventlog.Data {
				continue
			}
			m, err := fold.Apply(recs[i].Body)
			if err != nil {
				return err
			}
			if m != nil {
				won += w.race(ctx, claims, m)
			}
		}
	}
	return nil
}

func (w *world) race(ctx context.Context, claims *claim.Service, m *cairn.Map) (won int64) {
	timer := time.NewTimer(time.Until(m.Opens.Time()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	var tries []cairn.Attempt
	for tile := range m.Tiles {
		for player := range 2 {
			p := fmt.Sprintf("p%d", (tile+player)%7)
			tries = append(tries, cairn.Attempt{TileRef: cairn.TileRef{Hunt: m.Hunt, Tick: m.Tick, Tile: uint32(tile)}, Player: cairn.PlayerID(p), Name: p})
		}
	}
	answers := make([]claim.Answer, len(tries))
	claims.ClaimAll(ctx, tries, answers)
	for i := range answers {
		if answers[i].Err == nil && answers[i].Verdict.Outcome == cairn.Won {
			won++
		}
	}
	return won
}
