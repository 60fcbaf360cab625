package play

import (
	"sync"
	"time"

	"github.com/veltrix/cairn"
)

// A question is a tile that a player asks for again.
type question struct {
	tick   cairn.Tick
	tile   uint32
	closes time.Time
}

// A wheel holds what is to be asked again, by the second at which it is.
type wheel struct {
	mu    sync.Mutex
	slots map[int64]map[int][]question // Unix second, player
}

func newWheel() *wheel { return &wheel{slots: map[int64]map[int][]question{}} }

// put has a player ask at t.
func (w *wheel) put(t time.Time, player int, q question) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.slots[t.Unix()]
	if s == nil {
		s = map[int][]question{}
		w.slots[t.Unix()] = s
	}
	s[player] = append(s[player], q)
}

// take returns what is to be asked at or before t, by player.
func (w *wheel) take(t time.Time) map[int][]question {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[int][]question{}
	for sec, s := range w.slots {
		if sec > t.Unix() {
			continue
		}
		delete(w.slots, sec)
		for player, qs := range s {
			all[player] = append(all[player], qs...)
		}
	}
	return all
}
