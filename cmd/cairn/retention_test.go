package main

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/wire"
)

// TestRetention trims by age, and never past what is needed.
func TestRetention(t *testing.T) {
	ctx := t.Context()
	store, err := filelog.Open(t.TempDir(), filelog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	name := eventlog.Shard(0)
	if err := store.Provision(ctx, eventlog.Spec{Name: name}); err != nil {
		t.Fatal(err)
	}
	w, err := store.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r := &retention{store: store, keep: time.Hour}
	start := time.Now()
	at := func(epoch, seq uint64) eventlog.Offset { return eventlog.Offset{Epoch: epoch, Seq: seq} }
	for _, step := range []struct {
		after  time.Duration
		needed eventlog.Offset
		first  eventlog.Offset // held then
	}{
		{0, at(9, 0), at(1, 0)},
		{30 * time.Minute, at(9, 0), at(1, 0)},
		{60 * time.Minute, eventlog.Offset{}, at(1, 0)}, // old enough, but nobody has it yet
		{90 * time.Minute, at(1, 1), at(1, 1)},          // cut at what is needed
		{150 * time.Minute, at(9, 0), at(1, 4)},         // cut at the head of an hour ago
	} {
		if _, err := w.Append(ctx, []byte("x"), eventlog.Offset{}); err != nil {
			t.Fatal(err)
		}
		if err := r.trim(ctx, name, start.Add(step.after), step.needed); err != nil {
			t.Fatal(err)
		}
		st, err := store.Status(ctx, name)
		if err != nil || st.First != step.first {
			t.Errorf("after %v, needed %v: the oldest record is %v (%v), want %v", step.after, step.needed, st.First, err, step.first)
		}
	}
}

// TestRetentionKeepsWhatOwnersNeed sweeps a shard of which nearly all is old,
// settled and in the leaderboard's checkpoints, and whose owner still remembers
// maps.
func TestRetentionKeepsWhatOwnersNeed(t *testing.T) {
	opts := gameOptions{dir: t.TempDir(), shards: 1, retention: time.Hour, log: slog.New(slog.DiscardHandler)}
	needed := eventlog.Offset{Epoch: 1, Seq: 3}
	// Two lives, because the leaderboard stands by the checkpoint before the last.
	for range 2 {
		g, err := openGame(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		defer g.close()
		last := foldClaims(t, g, needed)
		if last.Epoch == 1 {
			g.close()
			continue
		}
		if got := g.boards.Durable()[0]; !needed.Less(got) {
			t.Fatalf("the checkpoints cover %v, want more than %v", got, needed)
		}
		r := g.retention()
		now := time.Now()
		for _, at := range []time.Time{now, now.Add(2 * time.Hour)} {
			if err := r.sweep(t.Context(), at); err != nil {
				t.Fatal(err)
			}
		}
		if st, err := g.store.Status(t.Context(), eventlog.Shard(0)); err != nil || st.First != needed {
			t.Errorf("the oldest record is %v (%v), want %v, from where the next owner reads", st.First, err, needed)
		}
	}
}

// foldClaims appends five claims to a game's one shard, waits until the ledger
// and a checkpoint of the leaderboard have them, and returns the last one's
// offset.
func foldClaims(t *testing.T, g *game, from eventlog.Offset) (last eventlog.Offset) {
	t.Helper()
	w, err := g.store.Open(t.Context(), eventlog.Shard(0))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for tile := range uint32(5) {
		body := wire.AppendClaims(nil, []cairn.Claim{{
			TileRef: cairn.TileRef{Hunt: "oslo", Tick: cairn.Tick(w.Fence().Epoch), Tile: tile}, Cell: cairn.CellOfBits(1, 6), Player: "ana", Name: "Ana", At: cairn.Instant(tile + 1),
		}})
		if last, err = w.Append(t.Context(), body, from); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel() // writes the checkpoint
	followers.Go(func() { g.ledger.Run(ctx, g.store) })
	followers.Go(func() { g.boards.Run(ctx) })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		settled, err := g.ledger.Settled(t.Context())
		if err == nil && settled[0] == last && g.boards.Ready() == nil {
			return last
		}
		if time.Now().After(deadline) {
			t.Fatalf("settled up to %v (%v) and boards %v, want %v", settled[0], err, g.boards.Ready(), last)
		}
	}
}
