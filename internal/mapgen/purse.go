package mapgen

import (
	"cmp"
	"math"
	"slices"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// A purse is the money of one hunt, as a plain value:
//
//	left = budget − Σ claims − Σ offered by maps not settled and not claimed there
//
// A map's offer leaves the purse when the map is emitted. What nobody claimed
// comes back when the map is settled, and maps are settled in order. While no
// claim comes after its map was settled, all claims together stay within the
// budget; if one does, it is taken off what is left, which may fall below 0,
// so that no map offers anything before that is made up for.
type purse struct {
	left    cairn.Micro
	settled cairn.Tick // all maps up to here are; noTick at first
	open    []offer    // maps that are not settled, by tick
}

// noTick stands before every tick.
const noTick = cairn.Tick(math.MinInt64)

// An offer is what a map that is not settled holds.
type offer struct {
	tick    cairn.Tick
	opens   cairn.Instant
	closes  cairn.Instant
	shards  int
	tiles   int
	amount  cairn.Micro
	claimed cairn.Micro
	taken   []uint64        // a bit a tile that was claimed; nil while none was
	header  eventlog.Offset // of its header's record
}

// emit takes what a new map offers out of the purse.
func (p *purse) emit(h *cairn.MapHeader, at eventlog.Offset) {
	p.left -= h.Offer
	p.open = append(p.open, offer{
		tick: h.Tick, opens: h.Opens, closes: h.Closes, shards: h.Shards, tiles: h.Tiles, amount: h.Offer, header: at,
	})
}

// claim folds a claim, and reports whether its map is settled already: the
// caller knows whether it is one that the purse had before it was restored.
// The first grant of a tile counts, and no other.
func (p *purse) claim(c *cairn.Claim) (settled bool) {
	i, known := slices.BinarySearchFunc(p.open, c.Tick, func(o offer, t cairn.Tick) int { return cmp.Compare(o.tick, t) })
	if !known {
		return c.Tick <= p.settled
	}
	o := &p.open[i]
	if int(c.Tile) >= o.tiles {
		return false
	}
	if o.taken == nil {
		o.taken = make([]uint64, (o.tiles+63)/64)
	}
	if bit := uint64(1) << (c.Tile % 64); o.taken[c.Tile/64]&bit == 0 {
		o.taken[c.Tile/64] |= bit
		o.claimed += c.Reward
	}
	return false
}

// lose counts all of an offer as claimed.
func (o *offer) lose() {
	o.claimed = o.amount
	o.taken = slices.Repeat([]uint64{math.MaxUint64}, (o.tiles+63)/64)
}

// late takes a claim off what is left that came after its map was settled.
func (p *purse) late(c *cairn.Claim) { p.left -= c.Reward }

// settle takes back what nobody claimed of the maps that are over: no claim of
// before water(n) will come any more in the first n shards.
func (p *purse) settle(water func(shards int) cairn.Instant) {
	n := 0
	for ; n < len(p.open) && p.open[n].closes <= water(p.open[n].shards); n++ {
		p.left += p.open[n].amount - p.open[n].claimed
		p.settled = p.open[n].tick
	}
	p.open = slices.Delete(p.open, 0, n)
}

// restore makes the purse that of a course; its open maps above settled stay.
func (p *purse) restore(left cairn.Micro, settled cairn.Tick) {
	p.left, p.settled = left, settled
	n := 0
	for n < len(p.open) && p.open[n].tick <= settled {
		n++
	}
	p.open = slices.Delete(p.open, 0, n)
}

// offered returns what the maps that are not settled offer and nobody claimed.
func (p *purse) offered() (sum cairn.Micro) {
	for i := range p.open {
		sum += p.open[i].amount - p.open[i].claimed
	}
	return sum
}
