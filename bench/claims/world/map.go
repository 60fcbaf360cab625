//go:build unix

package world

import (
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

// Lifetime is how long a map of a bench is open: for all of it.
const Lifetime = cairn.LifetimeMax

// root is the region of every hunt: some 1,250 × 625 km, so that there are two
// levels of regional boards.
var root = cairn.CellOfBits(0b1_0101_1_0101, 2)

// Newest returns the tick of the newest map that is open now. Those of the ticks
// before it are open as well.
func Newest() cairn.Tick { return cairn.Tick(time.Now().Unix()) - 1 }

// Map returns an open map of tiles that need no puzzle to be solved.
func Map(hunt cairn.HuntID, tick cairn.Tick, tiles, shards int) *cairn.Map {
	opens := cairn.Instant(tick) * 1_000_000
	m := &cairn.Map{MapHeader: cairn.MapHeader{
		Hunt: hunt, Tick: tick, Opens: opens, Closes: opens.Add(Lifetime), Shards: shards, Tiles: tiles, Budget: cairn.BudgetMax,
	}}
	m.Tiles = make([]cairn.Tile, tiles)
	for i := range m.Tiles {
		m.Tiles[i] = cairn.Tile{Cell: Cell(i), Reward: Reward(i), Puzzle: cairn.Tap}
		m.Offer += Reward(i)
	}
	m.Digest = wire.MapDigest(m)
	return m
}

// Cell returns where a tile is: spread over the hunt's region.
func Cell(tile int) cairn.Cell {
	const within = 20 // bits of the four characters behind root's two
	return cairn.CellOfBits(root.Bits()<<within|uint64(tile)*0x9e3779b97f4a7c15>>(64-within), 6)
}

// Reward returns what a tile carries.
func Reward(tile int) cairn.Micro { return cairn.Micro(100 + tile*2654435761>>7%4900) }
