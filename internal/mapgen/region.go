package mapgen

import (
	"github.com/mmcloughlin/geohash"

	"github.com/veltrix/cairn"
)

// A side says where a cell lies to a region.
type side int8

const (
	outside side = iota // no point of the cell is in the region, but perhaps of its edge
	inside              // all points of the cell are, but perhaps of its edge
	mixed               // can't be said without looking closer
)

// An area is a region to find the cells of. A cell belongs to it when the
// cell's centre does, or for a geohash, when the cell lies in it.
type area interface {
	// side classifies a cell. It may call mixed what is not.
	side(c cairn.Cell) side

	// has reports whether the cell belongs to the area.
	has(c cairn.Cell) bool
}

// boxOf returns the box of a cell in degrees.
func boxOf(c cairn.Cell) geohash.Box {
	return geohash.BoundingBoxIntWithPrecision(c.Bits(), uint(5*c.Precision()))
}

// areaOf returns the area of a region, or a FieldError.
func areaOf(r cairn.Region) (area, error) {
	switch {
	case r.Geohash != nil:
		return hashArea(*r.Geohash), nil
	case r.BBox != nil:
		return boxAreaOf(r.BBox), nil
	}
	return polyAreaOf(r.GeoJSON)
}

// A hashArea is all cells in a geohash.
type hashArea cairn.Cell

func (a hashArea) side(c cairn.Cell) side {
	switch {
	case cairn.Cell(a).Contains(c):
		return inside
	case c.Contains(cairn.Cell(a)):
		return mixed
	}
	return outside
}

func (a hashArea) has(c cairn.Cell) bool { return cairn.Cell(a).Contains(c) }

// A boxArea is a box in degrees. West > east crosses ±180°.
type boxArea struct{ west, south, east, north float64 }

func boxAreaOf(b []float64) boxArea { return boxArea{b[0], b[1], b[2], b[3]} }

func (a boxArea) side(c cairn.Cell) side {
	b := boxOf(c)
	lat, lng := overlap(b.MinLat, b.MaxLat, a.south, a.north), a.lngSide(b)
	switch {
	case lat == outside || lng == outside:
		return outside
	case lat == inside && lng == inside:
		return inside
	}
	return mixed
}

// overlap classifies the interval [lo, hi] against [from, to].
func overlap(lo, hi, from, to float64) side {
	switch {
	case hi < from || to < lo:
		return outside
	case from <= lo && hi <= to:
		return inside
	}
	return mixed
}

func (a boxArea) lngSide(b geohash.Box) side {
	if a.west <= a.east {
		return overlap(b.MinLng, b.MaxLng, a.west, a.east)
	}
	l, r := overlap(b.MinLng, b.MaxLng, a.west, 180), overlap(b.MinLng, b.MaxLng, -180, a.east)
	switch {
	case l == inside || r == inside:
		return inside
	case l == outside && r == outside:
		return outside
	}
	return mixed
}

func (a boxArea) has(c cairn.Cell) bool {
	lat, lng := boxOf(c).Center()
	if lat < a.south || lat > a.north {
		return false
	}
	if a.west <= a.east {
		return a.west <= lng && lng <= a.east
	}
	return lng >= a.west || lng <= a.east
}
