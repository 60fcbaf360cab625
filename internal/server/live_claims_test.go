package server

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/wire"
)

// slow is a claim service that answers when a test says so.
type slow struct {
	scripted
	answered []func()
}

func (s *slow) Submit(_ context.Context, as []cairn.Attempt, answered func(int, *claim.Answer)) {
	for i := range as {
		s.answered = append(s.answered, func() {
			answered(i, &claim.Answer{Verdict: cairn.Verdict{Outcome: cairn.UnknownTile}})
		})
	}
}

// TestLiveClaimsLate: what is not decided in time is told as pending, once, and
// what comes of it after that is told to nobody.
func TestLiveClaimsLate(t *testing.T) {
	g := newGame(t, func(o *Options) { o.ClaimWithin = 20 * time.Millisecond })
	s := &slow{}
	g.withClaims(s)
	e := &edge{s: g.server}
	var mu sync.Mutex
	got := map[string][]string{}
	told := make(chan struct{}, 16)
	reply := func(frame []byte) {
		var o struct{ ID, Outcome string }
		if err := json.Unmarshal(frame, &o); err != nil {
			t.Errorf("%s: %v", frame, err)
		}
		mu.Lock()
		got[o.ID] = append(got[o.ID], o.Outcome)
		mu.Unlock()
		told <- struct{}{}
	}
	cs := []wire.ClaimFrame{{ID: "a", Hunt: "oslo", Map: 7}, {ID: "b", Hunt: "oslo", Map: 7, Tile: 1}}
	for range 3 { // flights are used again
		e.Claims(t.Context(), "ana", "Ana", broadcast.JSON, cs, reply)
		s.answered[1]()
		for range cs {
			<-told
		}
		s.answered[0]()
		s.answered = nil
	}
	mu.Lock()
	defer mu.Unlock()
	for id, want := range map[string]string{"a": "pending", "b": "unknown_tile"} {
		if len(got[id]) != 3 {
			t.Errorf("claim %s: told %q; want one outcome each time", id, got[id])
		}
		for _, o := range got[id] {
			if o != want && o != "pending" { // a slow machine has both late
				t.Errorf("claim %s: told %q; want %s", id, o, want)
			}
		}
	}
}
