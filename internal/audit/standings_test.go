package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/leaderboard"
	"github.com/veltrix/cairn/internal/wire"
)

// published runs the real leaderboard until it has published boards that
// reflect all claims, and returns the hunt's.
func (w *world) published(store eventlog.Store) *wire.Board {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := leaderboard.New(store, leaderboard.Options{})
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	f, err := store.Follow(ctx, eventlog.Standings, eventlog.Offset{})
	check(w.t, err)
	defer f.Close()
	for {
		recs, _, err := f.Next(ctx)
		if err != nil {
			w.t.Fatalf("no board of all claims: %v", err)
		}
		for _, r := range recs {
			if r.Kind != eventlog.Data {
				continue
			}
			bs, err := wire.DecodeBoards(r.Body)
			check(w.t, err)
			for _, b := range bs {
				if b.Window == wire.WindowHunt && b.Region == 0 && len(b.AsOf) == shards && w.whole(store, b) {
					return b
				}
			}
		}
	}
}

func (w *world) whole(store eventlog.Store, b *wire.Board) bool {
	for _, o := range b.AsOf {
		st, err := store.Status(context.Background(), eventlog.Shard(o.Shard))
		check(w.t, err)
		if st.Last != o.Offset {
			return false
		}
	}
	return true
}

// TestStandings: what the leaderboard publishes is the fold of the claims, and
// what differs from that in any way is a violation.
func TestStandings(t *testing.T) {
	w := newWorld(t)
	store := w.openLogs()
	good := w.published(store)
	check(t, store.Close())
	if r := w.verify(Options{}); !r.OK || len(r.NotVerified) > 0 {
		t.Fatalf("boards of the leaderboard:\n%s", r)
	}
	region := w.won[0].Cell.Prefix(2)
	for _, c := range []struct {
		name  string
		spoil func(b *wire.Board)
		want  string
	}{
		{"score", func(b *wire.Board) { b.Rows[2].Score++ }, "rank 3 is"},
		{"claims", func(b *wire.Board) { b.Rows[0].Claims-- }, "rank 1 is"},
		{"order", func(b *wire.Board) { b.Rows[4], b.Rows[5] = b.Rows[5], b.Rows[4] }, "rank 5 is"},
		{"row left out", func(b *wire.Board) { b.Rows = slices.Delete(b.Rows, 1, 2) }, "rank 2 is"},
		{"no rows", func(b *wire.Board) { b.Rows = nil }, "no rows of 12 players"},
		{"too many rows", func(b *wire.Board) { b.Rows = append(b.Rows, wire.Row{Player: "mallory"}) }, "13 rows of 12 players"},
		{"players", func(b *wire.Board) { b.Players++ }, "it has 13 players"},
		{"newest", func(b *wire.Board) { b.Newest++ }, "the newest claim at"},
		{"as of earlier", func(b *wire.Board) { b.AsOf[1].Offset = eventlog.Offset{Epoch: 3} }, "rank 1 is"},
		{"another hour", func(b *wire.Board) { b.Window, b.Hour = wire.WindowHour, 12 }, "board hour 1970-01-01T12:00:00.000Z"},
		{"a region", func(b *wire.Board) { b.Region = region }, "in " + region.String()},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.copy(t)
			b := *good
			b.Rows, b.AsOf = slices.Clone(good.Rows), slices.Clone(good.AsOf)
			c.spoil(&b)
			store := w.openLogs()
			o := w.append(store, eventlog.Standings, wire.AppendBoard(nil, &b))
			check(t, store.Close())
			checkReport(t, w.verify(Options{}), []string{fmt.Sprintf("standings %v: board …of oslo-winter…%s", o, c.want)}, false)
		})
	}
	t.Run("not to be told", func(t *testing.T) {
		w := w.copy(t)
		store := w.openLogs()
		b := *good
		b.AsOf = slices.Clone(good.AsOf)
		b.AsOf[2].Offset.Seq += 1000
		w.append(store, eventlog.Standings, wire.AppendBoard(nil, &b), wire.AppendBoard(nil, &wire.Board{BoardKey: wire.BoardKey{
			Hunt: w.hunt.Name, Window: wire.WindowHour, Hour: 77,
		}, Newest: cairn.Instant(0)}))
		check(t, store.Close())
		r := w.verify(Options{})
		if !r.OK || len(r.NotVerified) != 1 || !strings.Contains(r.NotVerified[0], "the log was read up to") {
			t.Errorf("a board that reflects more than the log has:\n%s", r)
		}
	})
}
