// Package mapgen is the Map Generator: a pure function from a key, a hunt, a
// tick and the budget left to an immutable map ([Field.Make]), and the loop
// that emits one map a tick of every live hunt ([Generator]).
//
// docs/maps.md has its rules: which cells, which precision, which draws, and
// whose money.
package mapgen

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/veltrix/cairn"
)

// The rule of precision. A field's cells are the coarsest, of precision
// precisionUsual at most, of which there are spare times as many as tiles are
// open at once, so that open tiles seldom share a cell. Where a region is so small that there are not, they are the coarsest
// finer ones of which there are as many as a map has tiles.
const (
	precisionUsual = 8 // 38 m × 19 m at the equator
	spare          = 4
)

// looksMax bounds how often the search for the cells of one precision may look
// where a cell lies to the region. Only regions that are long and all but
// without area come near.
const looksMax = 1 << 20

// A Field is the valid cells of a hunt: those of one precision in its region
// and on its mask. It is immutable and may be used concurrently.
type Field struct {
	precision int
	runs      []run // in the order of the cells, not adjacent
	size      uint64

	// Where to look for a cell's run: cell i is in a run of
	// jump[i>>shift] … jump[i>>shift+1].
	jump  []uint32
	shift int
}

// A run is cells whose bits follow on each other.
type run struct {
	from  uint64 // bits of the first
	index uint64 // how many cells of the field are before it
}

// NewField finds the valid cells of a hunt. A region that can't be read, or
// has fewer valid cells than a map has tiles, is a [cairn.FieldError].
func NewField(h cairn.Hunt) (*Field, error) {
	h = h.WithDefaults()
	if err := h.Validate(); err != nil {
		return nil, err
	}
	a, err := areaOf(h.Region)
	if err != nil {
		return nil, err
	}
	b := &builder{area: a, tiles: uint64(h.TilesPerMap)}
	b.roomy = spare * b.tiles * uint64((h.Lifetime+h.Tick-1)/h.Tick)
	if h.Mask == cairn.MaskLand {
		b.land = land()
	}
	f := b.search()
	switch {
	case b.looks > looksMax:
		return nil, &cairn.FieldError{Field: regionField(h.Region), Msg: fmt.Sprintf(
			"is too thin: it has %d valid cells before precision %d, where over %d lie on its border; want at least tiles_per_map, %d",
			b.found, f.precision, looksMax/32, h.TilesPerMap)}
	case f.size < b.tiles:
		return nil, tooSmall(h, f)
	}
	f.index()
	return f, nil
}

// regionField names the field that a region is in.
func regionField(r cairn.Region) string {
	switch {
	case r.Geohash != nil:
		return "region.geohash"
	case r.BBox != nil:
		return "region.bbox"
	}
	return "region.geojson"
}

func tooSmall(h cairn.Hunt, f *Field) error {
	what := "cells on land (mask: none takes those at sea, too)"
	if h.Mask == cairn.MaskNone {
		what = "cells"
	}
	return &cairn.FieldError{Field: regionField(h.Region), Msg: fmt.Sprintf("has %d valid %s at the finest precision, %d; want at least tiles_per_map, %d",
		f.size, what, f.precision, h.TilesPerMap)}
}

// Precision returns how many characters the geohashes of its cells have.
func (f *Field) Precision() int { return f.precision }

// Size returns how many valid cells there are.
func (f *Field) Size() int { return int(f.size) }

// Has reports whether c is a valid cell of f.
func (f *Field) Has(c cairn.Cell) bool {
	if c.Precision() != f.precision {
		return false
	}
	i, exact := slices.BinarySearchFunc(f.runs, c.Bits(), func(r run, b uint64) int { return cmp.Compare(r.from, b) })
	if exact {
		return true
	}
	return i > 0 && c.Bits()-f.runs[i-1].from < f.length(i-1)
}

// length returns how many cells run i has.
func (f *Field) length(i int) uint64 {
	if i+1 < len(f.runs) {
		return f.runs[i+1].index - f.runs[i].index
	}
	return f.size - f.runs[i].index
}

// cell returns valid cell i, 0 ≤ i < size.
func (f *Field) cell(i uint64) cairn.Cell {
	at := i >> f.shift
	lo, hi := int(f.jump[at]), int(f.jump[at+1])+1 // the run is in [lo, hi)
	for hi-lo > 1 {
		mid := int(uint(lo+hi) / 2)
		if f.runs[mid].index <= i {
			lo = mid
		} else {
			hi = mid
		}
	}
	r := f.runs[lo]
	return cairn.CellOfBits(r.from+i-r.index, f.precision)
}

// index makes jump: about as many entries as there are runs, so that a cell's
// run is found in a step or two, and not in as many as runs have binary digits.
func (f *Field) index() {
	if f.size == 0 {
		return
	}
	f.shift = max(0, bits.Len64(f.size)-bits.Len(uint(len(f.runs))))
	f.jump = make([]uint32, (f.size-1)>>f.shift+2)
	r := 0
	for k := range f.jump {
		for r+1 < len(f.runs) && f.runs[r+1].index <= uint64(k)<<f.shift {
			r++
		}
		f.jump[k] = uint32(r)
	}
}

// A builder finds the cells of a field.
type builder struct {
	area  area
	land  *landMask // nil takes every cell
	tiles uint64    // of a map: fewer cells won't do
	roomy uint64    // so many cells are enough

	field *Field // of the precision that is being built
	next  uint64 // the bits that would go on with its last run
	looks int    // at the area, for this field; over looksMax it is not whole
	found uint64 // the size of the last field that is whole
}

// search returns the field of the precision that the rule names, or that of
// the finest precision if no precision has enough cells. If looks ends over
// looksMax, the field is not whole.
func (b *builder) search() *Field {
	for p := 1; p <= precisionUsual; p++ {
		if f := b.build(p); f.size >= b.roomy || b.looks > looksMax {
			return f
		}
	}
	for p := precisionUsual; ; p++ {
		if f := b.build(p); f.size >= b.tiles || p == cairn.CellPrecisionMax || b.looks > looksMax {
			return f
		}
	}
}

func (b *builder) build(precision int) *Field {
	b.field, b.next, b.looks = &Field{precision: precision}, 0, 0
	b.visit(0, mixed)
	if b.looks <= looksMax {
		b.found = b.field.size
	}
	b.field.runs = slices.Clip(b.field.runs)
	return b.field
}

// visit adds the valid cells in c. known is what is known of where c lies to
// the area: inside or mixed.
func (b *builder) visit(c cairn.Cell, known side) {
	ashore := b.landSide(c)
	if ashore == outside {
		return
	}
	if known == mixed {
		if b.looks++; b.looks > looksMax {
			return
		}
	}
	q := c.Precision()
	if q == b.field.precision {
		if known == inside || b.area.has(c) {
			b.add(c)
		}
		return
	}
	if known != inside {
		if known = b.area.side(c); known == outside {
			return
		}
	}
	if known == inside && ashore == inside {
		b.add(c)
		return
	}
	for v := range uint64(32) {
		b.visit(cairn.CellOfBits(c.Bits()<<5|v, q+1), known)
	}
}

// landSide says where c lies to the mask. A cell of the field coarser than the
// mask is valid if at least half of it is land.
func (b *builder) landSide(c cairn.Cell) side {
	if b.land == nil {
		return inside
	}
	n, of := b.land.count(c)
	switch {
	case n == 0 || c.Precision() == b.field.precision && 2*n < of:
		return outside
	case n == of || c.Precision() == b.field.precision:
		return inside
	}
	return mixed
}

// add adds all cells in c.
func (b *builder) add(c cairn.Cell) {
	f := b.field
	shift := 5 * (f.precision - c.Precision())
	from, n := c.Bits()<<shift, uint64(1)<<shift
	if len(f.runs) == 0 || from != b.next {
		f.runs = append(f.runs, run{from: from, index: f.size})
	}
	f.size += n
	b.next = from + n
}
