package mapgen

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

// Make returns the map of h at tick, out of a budget of which so much is left,
// chained to the digest of the map emitted before it. It is pure: the same
// arguments and field make the same map for ever. h must be the hunt that f was
// made of, with its defaults; of it, only Shards may differ.
//
// Cells, puzzles and rewards are drawn, in this order, from a stream keyed by
// (key, hunt, tick); the budget bears on the rewards alone. Σ rewards ≤ budget.
func (f *Field) Make(key [32]byte, h *cairn.Hunt, tick cairn.Tick, budget cairn.Micro, prev cairn.Digest) *cairn.Map {
	opens := OpensAt(h, tick)
	m := &cairn.Map{
		MapHeader: cairn.MapHeader{
			Hunt:   h.Name,
			Tick:   tick,
			Opens:  opens,
			Closes: opens.Add(time.Duration(h.Lifetime)),
			Shards: h.Shards,
			Tiles:  h.TilesPerMap,
			Budget: max(0, budget),
			Prev:   prev,
		},
		Tiles: make([]cairn.Tile, h.TilesPerMap),
	}
	d := newDraws(key, h.Name, tick)
	f.drawCells(d, m.Tiles)
	drawPuzzles(d, m.Tiles, h.Puzzles)
	m.Offer = drawRewards(d, m.Tiles, h.Reward, m.Budget)
	m.Digest = wire.MapDigest(m)
	return m
}

// OpensAt returns when the map of h at tick opens.
func OpensAt(h *cairn.Hunt, tick cairn.Tick) cairn.Instant {
	return cairn.Instant(tick) * cairn.Instant(time.Duration(h.Tick)/time.Microsecond)
}

// draws is a stream of random numbers of one map: ChaCha8 as package rand
// specifies it for ever (C2SP chacha8rand), seeded with
// HMAC-SHA256(key, "cairn map 1" ‖ 0 ‖ hunt ‖ 0 ‖ tick as 8 bytes, big-endian).
type draws struct{ chacha rand.ChaCha8 }

func newDraws(key [32]byte, hunt cairn.HuntID, tick cairn.Tick) *draws {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("cairn map 1\x00"))
	mac.Write(append([]byte(hunt), 0))
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(tick)))
	d := new(draws)
	d.chacha.Seed([32]byte(mac.Sum(nil)))
	return d
}

// below returns a uniform number in [0, n), n > 0: Lemire's multiplication
// with rejection (Fast Random Integer Generation in an Interval, 2019, section
// 4). Written out, since maps depend on it: a library's may change.
func (d *draws) below(n uint64) uint64 {
	hi, lo := bits.Mul64(d.chacha.Uint64(), n)
	if lo < n {
		for least := -n % n; lo < least; {
			hi, lo = bits.Mul64(d.chacha.Uint64(), n)
		}
	}
	return hi
}

// drawCells gives each tile a valid cell of its own. A draw that was had is
// drawn again: with four times as many cells as tiles, one in seven is.
func (f *Field) drawCells(d *draws, tiles []cairn.Tile) {
	drawn := make([]uint64, (f.size+63)/64)
	for i := range tiles {
		c := d.below(f.size)
		for drawn[c/64]>>(c%64)&1 != 0 {
			c = d.below(f.size)
		}
		drawn[c/64] |= 1 << (c % 64)
		tiles[i].Cell = f.cell(c)
	}
}

// drawPuzzles gives each tile a puzzle kind, by weight.
func drawPuzzles(d *draws, tiles []cairn.Tile, weights map[cairn.PuzzleKind]int) {
	var kinds [32]cairn.PuzzleKind
	var upTo [32]uint64
	n, sum := 0, uint64(0)
	for _, k := range cairn.PuzzleKinds() {
		if w := weights[k]; w > 0 {
			sum += uint64(w)
			kinds[n], upTo[n] = k, sum
			n++
		}
	}
	for i := range tiles {
		v, k := d.below(sum), 0
		for v >= upTo[k] {
			k++
		}
		tiles[i].Puzzle = kinds[k]
	}
}

// drawRewards gives each tile a reward in [min, max] and returns their sum,
// never above the budget. Where the budget does not reach for what was drawn:
//
//   - If it reaches for min a tile, what each drew above min is scaled down, so
//     that all of them together fit.
//   - Else the first tiles carry min, as many as it reaches for, and the others
//     none. Tiles are in random order, so this favours no place.
func drawRewards(d *draws, tiles []cairn.Tile, r cairn.Reward, budget cairn.Micro) (offer cairn.Micro) {
	if r.Max == 0 || budget <= 0 {
		return 0
	}
	n := cairn.Micro(len(tiles))
	if r.Min*n > budget {
		reach := budget / r.Min
		for i := range tiles[:reach] {
			tiles[i].Reward = r.Min
		}
		return reach * r.Min
	}
	above := cairn.Micro(0) // Σ of what was drawn above min
	for i := range tiles {
		tiles[i].Reward = cairn.Micro(d.below(uint64(r.Max - r.Min + 1)))
		above += tiles[i].Reward
	}
	if reach := budget - r.Min*n; reach < above {
		above = scale(tiles, reach, above)
	}
	for i := range tiles {
		tiles[i].Reward += r.Min
	}
	return above + r.Min*n
}

// scale multiplies all rewards by num/den < 1, rounding down, and returns
// their sum.
func scale(tiles []cairn.Tile, num, den cairn.Micro) (sum cairn.Micro) {
	for i := range tiles {
		hi, lo := bits.Mul64(uint64(tiles[i].Reward), uint64(num))
		q, _ := bits.Div64(hi, lo, uint64(den))
		tiles[i].Reward = cairn.Micro(q)
		sum += tiles[i].Reward
	}
	return sum
}
