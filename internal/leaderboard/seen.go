package leaderboard

import (
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// seenTiles is which tiles of one shard were claimed, so that a second grant
// of a tile, which no writer in order can log, never counts. It is a function
// of the shard's log alone. A map is forgotten when its last claim lies before
// the from of a record: then no writer will ever grant a tile of it again; and
// at the latest an hour of at, the longest lifetime, after its first claim.
// The zero value is empty.
type seenTiles struct {
	from eventlog.Offset // of the newest record that had one
	at   cairn.Instant   // of the newest claim
	due  cairn.Instant   // forget looks at the times again
	maps map[mapID]*seenMap
}

type mapID struct {
	hunt cairn.HuntID
	tick cairn.Tick
}

type seenMap struct {
	first cairn.Instant   // at of its first claim
	last  eventlog.Offset // of the record with its last
	bits  []uint64        // by tile; no trailing zero word
}

const (
	seenFor   = cairn.Instant(cairn.LifetimeMax / time.Microsecond)
	seenEvery = cairn.Instant(time.Minute / time.Microsecond)
)

// first notes a claim and reports whether it is the first of its tile.
func (s *seenTiles) first(c *cairn.Claim, o eventlog.Offset) bool {
	if s.maps == nil {
		s.maps = map[mapID]*seenMap{}
	}
	id := mapID{c.Hunt, c.Tick}
	m := s.maps[id]
	if m == nil {
		m = &seenMap{first: c.At}
		s.maps[id] = m
	}
	s.at = max(s.at, c.At)
	word, bit := int(c.Tile/64), uint64(1)<<(c.Tile%64)
	if word >= len(m.bits) {
		m.bits = append(m.bits, make([]uint64, word+1-len(m.bits))...)
	}
	if m.bits[word]&bit != 0 {
		return false
	}
	m.bits[word] |= bit
	m.last = o
	return true
}

// forget drops the maps that nothing can be granted on any more, as of a
// record with that from.
func (s *seenTiles) forget(from eventlog.Offset) {
	moved := s.from.Less(from)
	if !moved && s.at < s.due {
		return
	}
	if moved {
		s.from = from
	}
	s.due = s.at + seenEvery
	for id, m := range s.maps {
		if m.last.Less(s.from) || m.first+seenFor < s.at {
			delete(s.maps, id)
		}
	}
}
