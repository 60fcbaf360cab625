package mapgen

import (
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// A shardFold is how far one shard's log was read, and what that says about
// claims to come. It is a plain value.
//
// The at of claims never decreases in a shard, takeovers included. So once a
// claim of time t was read, none of before t will come: the water stands at t.
// A silent shard says nothing by itself. There the water follows the clock by
// grace: what was the head at time t was read, and no claim is appended later
// than grace after it was received.
type shardFold struct {
	read  eventlog.Offset // all records up to here are folded
	at    cairn.Instant   // of the newest claim read
	water cairn.Instant   // no claim of before this will come
	stops []stop          // places to begin reading again, oldest first, never empty
	probe *probe          // a head that is not read yet, or nil
}

// A stop is a place in a shard's log: all claims up to it are of at or before.
type stop struct {
	offset eventlog.Offset
	at     cairn.Instant
}

// A probe is what the head was at a time.
type probe struct {
	head eventlog.Offset
	at   cairn.Instant
}

// stopEvery is how far stops are apart, so that they are few.
const stopEvery = 250 * time.Millisecond

func newShardFold(from eventlog.Offset) shardFold {
	return shardFold{read: from, stops: []stop{{offset: from, at: minInstant}}}
}

const minInstant = cairn.Instant(-1 << 62)

// advance notes that all up to read was folded, the newest claim being of at;
// 0 if there was none.
func (s *shardFold) advance(read eventlog.Offset, at cairn.Instant) {
	s.read = read
	s.at = max(s.at, at)
	s.water = max(s.water, at)
	last := &s.stops[len(s.stops)-1]
	switch {
	case at == 0 && (last.at == s.at || s.at == 0):
		last.offset = read // no claim since
	case at == 0, last.at == minInstant, s.at.Sub(last.at) >= stopEvery:
		s.stops = append(s.stops, stop{read, s.at})
	}
}

// surface moves the water of a silent shard, if its probe was read.
func (s *shardFold) surface(grace time.Duration) {
	if s.probe != nil && !s.read.Less(s.probe.head) {
		s.water = max(s.water, s.probe.at.Add(-grace))
		s.probe = nil
	}
}

// before returns a place that all claims of at or later are behind.
func (s *shardFold) before(at cairn.Instant) eventlog.Offset {
	o := s.stops[0].offset
	for _, st := range s.stops {
		if st.at >= at {
			break
		}
		o = st.offset
	}
	return o
}

// forget drops the stops that before(at) and later don't need.
func (s *shardFold) forget(at cairn.Instant) {
	n := 0
	for n+1 < len(s.stops) && s.stops[n+1].at < at {
		n++
	}
	s.stops = append(s.stops[:0], s.stops[n:]...)
}
