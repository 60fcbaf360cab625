//go:build unix

package peer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/veltrix/cairn/internal/lab"
)

// TestOneWinnerATile has several callers claim the same tiles at once, of every
// peer: one of them gets each tile, the others hear who, and so does one who
// comes again; and the store has as many claims as were won.
func TestOneWinnerATile(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	redis, err := l.StartRedis(t.Context(), "redis", "--appendonly", "no")
	if err != nil {
		t.Fatal(err)
	}
	pg, err := l.StartPostgres(t.Context(), "postgres", lab.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	onPostgres := func(locking Locking, together bool) func(context.Context) (Claimer, error) {
		return func(ctx context.Context) (Claimer, error) {
			return OpenPostgres(ctx, pg.DSN(), locking, PostgresOptions{Connections: 4, Together: together, RefreshEvery: 10 * time.Millisecond})
		}
	}
	for _, p := range []struct {
		name string
		open func(context.Context) (Claimer, error)
	}{
		{"lua", func(ctx context.Context) (Claimer, error) { return OpenLua(ctx, redis.Addr, RedisOptions{}) }},
		{"lua with board", func(ctx context.Context) (Claimer, error) { return OpenLua(ctx, redis.Addr, RedisOptions{Board: true}) }},
		{"lua batched", func(ctx context.Context) (Claimer, error) { return OpenLuaBatched(ctx, redis.Addr, RedisOptions{}) }},
		{"function", func(ctx context.Context) (Claimer, error) { return OpenFunction(ctx, redis.Addr, RedisOptions{}) }},
		{"multi", func(ctx context.Context) (Claimer, error) { return OpenMulti(ctx, redis.Addr, RedisOptions{}) }},
		{"multi with board", func(ctx context.Context) (Claimer, error) {
			return OpenMulti(ctx, redis.Addr, RedisOptions{Board: true})
		}},
		{"postgres for update", onPostgres(ForUpdate, false)},
		{"postgres if free", onPostgres(IfFree, false)},
		{"postgres serializable", onPostgres(Serializable, false)},
		{"postgres together", onPostgres(IfFree, true)},
		{"postgres together, serializable", onPostgres(Serializable, true)},
	} {
		t.Run(p.name, func(t *testing.T) {
			c, err := p.open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}()
			if err := c.Reset(t.Context()); err != nil {
				t.Fatal(err)
			}
			race(t, c)
		})
	}
}

const (
	racers = 8
	tiles  = 60
)

func race(t *testing.T, c Claimer) {
	m := &Map{Hunt: "oslo", Tick: 7, Tiles: make([]Tile, tiles)}
	for i := range m.Tiles {
		m.Tiles[i] = Tile{Geohash: fmt.Sprintf("u4xs%02d", i), Reward: int64(i)}
	}
	if err := c.Prepare(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := make([][]Outcome, racers)
	var wg sync.WaitGroup
	for r := range racers {
		wg.Go(func() {
			// Everybody begins somewhere else, and half of them go backwards.
			as := attempts(m, fmt.Sprint("player-", r), r*tiles/racers)
			if r%2 == 1 {
				slices.Reverse(as)
			}
			out := make([]Outcome, len(as))
			for i := 0; i < len(as); i += 15 {
				if err := c.Claim(t.Context(), as[i:i+15], out[i:i+15]); err != nil {
					t.Errorf("racer %d: %v", r, err)
				}
			}
			got[r] = make([]Outcome, tiles)
			for i := range as {
				got[r][as[i].Tile] = out[i]
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for tile := range tiles {
		winner := ""
		for r := range racers {
			if got[r][tile].Won {
				if winner != "" {
					t.Fatalf("tile %d: both %s and player-%d won", tile, winner, r)
				}
				winner = fmt.Sprint("player-", r)
			}
		}
		for r := range racers {
			if o := got[r][tile]; winner == "" || !o.Won && o.Holder != winner {
				t.Errorf("tile %d: player-%d heard %+v; want lost to %q", tile, r, o, winner)
			}
		}
	}
	again := make([]Outcome, tiles)
	if err := c.Claim(t.Context(), attempts(m, "late", 0), again); err != nil {
		t.Fatal(err)
	}
	if n := slices.IndexFunc(again, func(o Outcome) bool { return o.Won || o.Holder == "" }); n >= 0 {
		t.Errorf("tile %d: one who came late heard %+v; want lost to its holder", n, again[n])
	}
	tally, err := c.Tally(t.Context())
	if want := (Tally{Tiles: tiles, Events: tiles}); err != nil || tally != want {
		t.Errorf("the store has %+v, %v; want %+v", tally, err, want)
	}
}

// attempts returns one player's tries for all tiles of a map, from one on.
func attempts(m *Map, player string, from int) []Attempt {
	as := make([]Attempt, len(m.Tiles))
	for i := range as {
		tile := (from + i) % len(m.Tiles)
		as[i] = Attempt{Hunt: m.Hunt, Tick: m.Tick, Tile: uint32(tile), Player: player, Geohash: m.Tiles[tile].Geohash, Reward: m.Tiles[tile].Reward}
	}
	return as
}
