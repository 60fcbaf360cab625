package claim

import (
	"fmt"

	"github.com/veltrix/cairn"
)

// A Layout is a map together with where each of its tiles lives: which shard,
// and which place among that shard's tiles. It is worked out once a map and
// shared, read-only, by every shard, so that an attempt costs no hashing.
type Layout struct {
	Map   *cairn.Map
	spots []spot   // by tile
	count []uint32 // by shard: how many tiles it has
}

// A spot is what an attempt on a tile needs, in one place: attempts come in no
// order, and a look at a large map's memory costs more than what is done with it.
type spot struct {
	local  uint32 // the tile's number among those of its shard
	shard  uint16
	puzzle cairn.PuzzleKind
}

// NewLayout lays out m over m.Shards shards. The map must not change.
func NewLayout(m *cairn.Map) (*Layout, error) {
	if m.Shards < 1 || m.Shards > cairn.ShardsMax || len(m.Tiles) > cairn.TilesPerMapMax {
		return nil, fmt.Errorf("claim: map %s/%d has %d shards and %d tiles", m.Hunt, m.Tick, m.Shards, len(m.Tiles))
	}
	l := &Layout{
		Map:   m,
		spots: make([]spot, len(m.Tiles)),
		count: make([]uint32, m.Shards),
	}
	slots := cairn.SlotterOf(m.Hunt, m.Tick)
	for i := range m.Tiles {
		s := cairn.ShardOf(slots.Slot(uint32(i)), m.Shards)
		l.spots[i] = spot{local: l.count[s], shard: uint16(s), puzzle: m.Tiles[i].Puzzle}
		l.count[s]++
	}
	return l, nil
}

// Shard returns the shard that owns a tile, or false if there is no such tile.
func (l *Layout) Shard(tile uint32) (int, bool) {
	if int64(tile) >= int64(len(l.spots)) {
		return 0, false
	}
	return int(l.spots[tile].shard), true
}
