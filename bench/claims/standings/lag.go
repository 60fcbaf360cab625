//go:build unix

package standings

import (
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A place is where a claim stands in the order that a board is a fold of. Ours
// says so itself (as_of): the record of a shard's log. A peer does not: there a
// claim's place is when it was acknowledged and a board reflects a place if it
// was asked for after that, by one clock. What was asked for earlier and
// reflects the claim all the same counts as one that does not; that is at most
// a round trip to the store.
type place struct {
	shard int
	at    eventlog.Offset
}

// moment is the place of a peer's claim or board.
func moment(t int64) place { return place{at: eventlog.Offset{Seq: uint64(t)}} }

// A win is a claim that was acknowledged.
type win struct {
	hunt     int
	place    place
	receipt  int64 // nanoseconds of the bench's clock
	answered int64
}

// A sight is a board as an observer had it: how far it had come, by shard.
type sight struct {
	at   int64
	upTo []place
}

// An observer sees the boards of one hunt, one after the other.
type observer struct {
	hunt int

	mu     sync.Mutex
	sights []sight
}

// saw notes a board. It keeps upTo.
func (o *observer) saw(at int64, upTo []place) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sights = append(o.sights, sight{at, upTo})
}

// count returns how many boards it saw.
func (o *observer) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.sights)
}

// has reports whether the newest board reflects all of those places.
func (o *observer) has(of map[int]eventlog.Offset) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := 0
	if n := len(o.sights); n > 0 {
		for _, p := range o.sights[n-1].upTo {
			if want, ok := of[p.shard]; ok && !p.at.Less(want) {
				found++
			}
		}
	}
	return found == len(of)
}

// places are how far claims went, by hunt and shard.
type places map[int]map[int]eventlog.Offset

// newest returns the highest places that were won.
func newest(wins []win) places {
	of := places{}
	for i := range wins {
		w := &wins[i]
		m := of[w.hunt]
		if m == nil {
			m = map[int]eventlog.Offset{}
			of[w.hunt] = m
		}
		if m[w.place.shard].Less(w.place.at) {
			m[w.place.shard] = w.place.at
		}
	}
	return of
}

// reached returns when an observer first saw a board that reflects p, or false.
func (s *series) reached(p place) (int64, bool) {
	marks := s.byShard[p.shard]
	i := sort.Search(len(marks), func(i int) bool { return !marks[i].offset.Less(p.at) })
	if i == len(marks) {
		return 0, false
	}
	return marks[i].at, true
}

// A series is an observer's sights, by shard, each with the highest offset of
// all sights up to it.
type series struct {
	byShard map[int][]mark
}

type mark struct {
	offset eventlog.Offset
	at     int64
}

func (o *observer) series() *series {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &series{map[int][]mark{}}
	for _, x := range o.sights {
		for _, p := range x.upTo {
			have := s.byShard[p.shard]
			if n := len(have); n == 0 || have[n-1].offset.Less(p.at) {
				s.byShard[p.shard] = append(have, mark{p.at, x.at})
			}
		}
	}
	return s
}

// A lag is how long claims took to reach observers.
type lag struct {
	FromReceipt Quantiles `json:"from_receipt"`
	FromAnswer  Quantiles `json:"from_answer"` // 0 for a claim that was seen before its player was answered
}

// lagOf returns the lag of all wins, over all observers of their hunts, each of
// which must have seen all of them.
func lagOf(wins []win, observers []*observer) (*lag, error) {
	received, answered := newHistogram(), newHistogram()
	byHunt := map[int][]*series{}
	for _, o := range observers {
		byHunt[o.hunt] = append(byHunt[o.hunt], o.series())
	}
	for i := range wins {
		w := &wins[i]
		for _, s := range byHunt[w.hunt] {
			at, ok := s.reached(w.place)
			if !ok {
				return nil, fmt.Errorf("an observer of hunt %d never saw the claim at %v of shard %d", w.hunt, w.place.at, w.place.shard)
			}
			record(received, at-w.receipt)
			record(answered, at-w.answered)
		}
	}
	return &lag{quantiles(received), quantiles(answered)}, nil
}

// Quantiles are of durations, in milliseconds.
type Quantiles struct {
	N    int64   `json:"n"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
}

// lagMost is the longest duration that is told from a longer one.
const lagMost = 5 * time.Minute

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, lagMost.Microseconds(), 3)
}

// record counts a duration in nanoseconds; one below 0 counts as 0.
func record(h *hdrhistogram.Histogram, d int64) {
	_ = h.RecordValue(min(max(d, 0)/1000, lagMost.Microseconds())) // within its range
}

func quantiles(h *hdrhistogram.Histogram) Quantiles {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return Quantiles{
		h.TotalCount(), ms(h.ValueAtQuantile(50)), ms(h.ValueAtQuantile(99)), ms(h.ValueAtQuantile(99.9)), ms(h.Max()),
	}
}
