package claim

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/puzzle"
)

// TestStartOnTrimmedMaps starts on a maps log whose oldest record is the
// header of a map, or the middle of one: whoever trims knows no maps. That one
// is gone; those behind it are as they were.
func TestStartOnTrimmedMaps(t *testing.T) {
	w := newWorld(t)
	w.start()
	gone, m := w.emit(nowTick()-1, cairn.Tap), w.emit(nowTick(), cairn.Tap)
	won := w.claim(w.attempt(m.Tick, 3, "ana"))
	if won.Outcome != cairn.Won {
		t.Fatalf("got %v, want won", won.Outcome)
	}
	w.halt()
	header := eventlog.Offset{Epoch: 1, Seq: 2} // of the first: behind its one chunk
	w.must(w.store.Trim(t.Context(), eventlog.Maps, header))
	if st, err := w.store.Status(t.Context(), eventlog.Maps); err != nil || st.First != header {
		t.Fatalf("the oldest record is %v (%v), want %v", st.First, err, header)
	}
	w.start()
	if v := w.claim(w.attempt(m.Tick, 3, "ana")); v.Outcome != cairn.Won || v.Place != won.Place {
		t.Errorf("the holder's retry: got %v at %v, want won at %v", v.Outcome, v.Place, won.Place)
	}
	if v, err := w.Claim(t.Context(), w.attempt(gone.Tick, 3, "ana")); err == nil && v.Outcome == cairn.Won {
		t.Errorf("a map that is cut off: got %v", v.Outcome)
	}
}

// TestNoGuessBeforeTheLogsAreRead asks for a map and a hunt that are there
// while the service has not read so far: it must not say that they are not.
func TestNoGuessBeforeTheLogsAreRead(t *testing.T) {
	w := newWorld(t)
	m := w.emit(nowTick()-60, cairn.Tap) // closed, so that nobody waits for it
	s := New(w.store, puzzle.New(testKey), Options{Shards: testShards, MapWait: 1})
	ask := func(when string) {
		t.Helper()
		if v, err := s.Claim(t.Context(), w.attempt(m.Tick, 0, "ana")); err == nil {
			t.Errorf("%s: got %v, want an error", when, v.Outcome)
		}
	}
	ask("nothing is read")
	// The control log is read, the maps log is not.
	ctx, cancel := context.WithCancel(t.Context())
	caught, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() { ended <- s.follow(ctx, eventlog.Control, s.foldControl, caught) }()
	<-caught
	ask("only the control log is read")
	cancel()
	<-ended
}

// TestOneWaitForAll sends a batch of attempts on maps that should be there and
// never come: the call waits for them together, not for one after the other.
func TestOneWaitForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(nil, puzzle.New(testKey), Options{Shards: 1})
		close(s.read)
		cell := cairn.CellOfBits(1, 1)
		h := cairn.Hunt{Name: "oslo", Region: cairn.Region{Geohash: &cell}, Lifetime: cairn.Duration(cairn.LifetimeMax)}.WithDefaults()
		s.atlas.Load().hunts.Apply(cairn.Change{Hunt: h.Name, Create: &h})
		as, out := make([]cairn.Attempt, 100), make([]Answer, 100)
		for i := range as {
			as[i] = cairn.Attempt{TileRef: cairn.TileRef{Hunt: "oslo", Tick: nowTick() - cairn.Tick(i)}, Player: "ana"}
		}
		began := time.Now()
		s.ClaimAll(t.Context(), as, out)
		if took := time.Since(began); took != s.opts.MapWait {
			t.Errorf("took %v, want %v", took, s.opts.MapWait)
		}
		for i, a := range out {
			if !errors.Is(a.Err, ErrUnavailable) {
				t.Errorf("attempt %d: got %v, %v; want ErrUnavailable", i, a.Verdict.Outcome, a.Err)
			}
		}
	})
}
