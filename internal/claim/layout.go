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
	shard []uint16 // by tile: its shard
	local []uint32 // by tile: its number among the tiles of that shard
	count []uint32 // by shard: how many tiles it has
}

// NewLayout lays out m over m.Shards shards. The map must not change.
func NewLayout(m *cairn.Map) (*Layout, error) {
	if m.Shards < 1 || m.Shards > cairn.ShardsMax || len(m.Tiles) > cairn.TilesPerMapMax {
		return nil, fmt.Errorf("claim: map %s/%d has %d shards and %d tiles", m.Hunt, m.Tick, m.Shards, len(m.Tiles))
	}
	l := &Layout{
		Map:   m,
		shard: make([]uint16, len(m.Tiles)),
		local: make([]uint32, len(m.Tiles)),
		count: make([]uint32, m.Shards),
	}
	slots := cairn.SlotterOf(m.Hunt, m.Tick)
	for i := range m.Tiles {
		s := cairn.ShardOf(slots.Slot(uint32(i)), m.Shards)
		l.shard[i] = uint16(s)
		l.local[i] = l.count[s]
		l.count[s]++
	}
	return l, nil
}

// Shard returns the shard that owns a tile, or false if there is no such tile.
func (l *Layout) Shard(tile uint32) (int, bool) {
	if int64(tile) >= int64(len(l.shard)) {
		return 0, false
	}
	return int(l.shard[tile]), true
}
