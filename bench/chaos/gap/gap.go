// Package gap measures time without service from the outside: how long nothing
// good was heard of something that ought to be heard of all the time.
package gap

import (
	"slices"
	"sync"
	"time"
)

// Floor is the shortest gap that is kept. Load that is even leaves gaps below
// it all the time, which say nothing.
const Floor = 50 * time.Millisecond

// A Gap is a time in which nothing good was heard: From the last good answer,
// or the moment at which one was due, To the next.
type Gap struct{ From, To time.Time }

// Length is how long it lasted.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// A Track is one thing that ought to be heard of all the time, such as a
// shard. Its methods may be called concurrently.
type Track struct {
	mu   sync.Mutex
	last time.Time // of what was good, or when the next is due; zero before the first
	gaps []Gap     // of Floor and more, in the order of their ends
}

// Good notes that something good was heard at t. Answers may be noted a little
// out of order: one that is older than the last tells nothing.
func (t *Track) Good(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !at.After(t.last) {
		return
	}
	if !t.last.IsZero() {
		t.add(Gap{t.last, at})
	}
	t.last = at
}

// Late notes that what was due at due was heard at at, and when the next is
// due: for things that come at set times.
func (t *Track) Late(due, at, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(Gap{due, at})
	t.last = next
}

func (t *Track) add(g Gap) {
	if g.Length() >= Floor {
		t.gaps = append(t.gaps, g)
	}
}

// Heard reports whether anything good was heard at or after since.
func (t *Track) Heard(since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.last.Before(since)
}

// Longest returns the longest gap that touches the time from a to b, the one
// included that has not ended at b, which then ends there. It is the zero Gap
// if there is none of Floor or more.
func (t *Track) Longest(a, b time.Time) Gap {
	t.mu.Lock()
	defer t.mu.Unlock()
	var longest Gap
	see := func(g Gap) {
		if g.From.Before(b) && g.To.After(a) && g.Length() > longest.Length() {
			longest = g
		}
	}
	// Ends are in order, so what ended before a is of no interest.
	first, _ := slices.BinarySearchFunc(t.gaps, a, func(g Gap, a time.Time) int { return g.To.Compare(a) })
	for _, g := range t.gaps[first:] {
		see(g)
	}
	if !t.last.IsZero() && b.Sub(t.last) >= Floor {
		see(Gap{t.last, b})
	}
	return longest
}

// Longest returns the longest gap of several tracks that touches the time from
// a to b.
func Longest(tracks []*Track, a, b time.Time) Gap {
	var longest Gap
	for _, t := range tracks {
		if g := t.Longest(a, b); g.Length() > longest.Length() {
			longest = g
		}
	}
	return longest
}

// Median returns the median of ds, the lower one of two, or 0 if there is none.
func Median(ds []time.Duration) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	ds = slices.Sorted(slices.Values(ds))
	return ds[(len(ds)-1)/2]
}
