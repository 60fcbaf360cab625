package mapgen

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/golang/geo/r3"
	"github.com/golang/geo/s1"
	"github.com/golang/geo/s2"

	"github.com/veltrix/cairn"
)

// A polyArea is the polygons of a GeoJSON region (RFC 7946) on the sphere.
//
// GeoJSON's edges are straight on a plane of longitude and latitude and S2's
// are geodesics, so an edge is cut into pieces of at most a degree, along which
// the two are the same for a map's purposes. An edge over more than 180° of
// longitude is taken the short way, across ±180°. A ring's interior is the side
// that does not hold the point opposite its middle on the globe, whichever way
// round it is written; one that crosses itself is taken by the even-odd rule.
type polyArea struct {
	polygons []ringed
	edges    *s2.EdgeQuery // of all rings: how far a point is from any border
}

type ringed struct {
	outer *s2.Loop
	holes []*s2.Loop
}

// edgeDegreesMax is the longest piece of an edge.
const edgeDegreesMax = 1.0

// pointsMax bounds the points of a region, after its edges are cut.
const pointsMax = 200_000

// coarse is the precision from which on a cell is small enough that no point
// of it is farther from its centre than its corners.
const coarse = 2

func (a *polyArea) side(c cairn.Cell) side {
	if c.Precision() < coarse {
		return mixed
	}
	b := boxOf(c)
	center := centerOf(c)
	reach := s1.ChordAngle(0)
	for _, lat := range [...]float64{b.MinLat, b.MaxLat} {
		for _, lng := range [...]float64{b.MinLng, b.MaxLng} {
			reach = max(reach, s2.ChordAngleBetweenPoints(center, pointAt(lng, lat)))
		}
	}
	// A little farther than needed: what is said to be far from every border
	// must be.
	reach = reach*1.01 + 1e-14
	if a.edges.IsDistanceLess(s2.NewMinDistanceToPointTarget(center), reach) {
		return mixed
	}
	if a.contains(center) {
		return inside
	}
	return outside
}

func (a *polyArea) has(c cairn.Cell) bool { return a.contains(centerOf(c)) }

func (a *polyArea) contains(p s2.Point) bool {
	for i := range a.polygons {
		if a.polygons[i].contains(p) {
			return true
		}
	}
	return false
}

func (r *ringed) contains(p s2.Point) bool {
	if !r.outer.ContainsPoint(p) {
		return false
	}
	for _, h := range r.holes {
		if h.ContainsPoint(p) {
			return false
		}
	}
	return true
}

func centerOf(c cairn.Cell) s2.Point {
	lat, lng := boxOf(c).Center()
	return pointAt(lng, lat)
}

func pointAt(lng, lat float64) s2.Point {
	return s2.PointFromLatLng(s2.LatLngFromDegrees(lat, lng))
}

// geometry is what is read of a GeoJSON object.
type geometry struct {
	Type        string          `json:"type"`
	Geometry    *geometry       `json:"geometry"`
	Coordinates json.RawMessage `json:"coordinates"`
}

func geoError(format string, args ...any) error {
	return &cairn.FieldError{Field: "region.geojson", Msg: fmt.Sprintf(format, args...)}
}

func polyAreaOf(raw []byte) (*polyArea, error) {
	var g geometry
	if err := json.Unmarshal(raw, &g); err != nil {
		return nil, geoError("is not GeoJSON: %v", err)
	}
	if g.Type == "Feature" {
		if g.Geometry == nil {
			return nil, geoError("is a Feature without a geometry; want one of a Polygon or MultiPolygon")
		}
		g = *g.Geometry
	}
	var polygons [][][][]float64
	switch g.Type {
	case "Polygon":
		var rings [][][]float64
		if err := json.Unmarshal(g.Coordinates, &rings); err != nil {
			return nil, geoError("has coordinates that are not a Polygon's: %v", err)
		}
		polygons = append(polygons, rings)
	case "MultiPolygon":
		if err := json.Unmarshal(g.Coordinates, &polygons); err != nil {
			return nil, geoError("has coordinates that are not a MultiPolygon's: %v", err)
		}
	default:
		return nil, geoError("is of type %.40q; want Polygon, MultiPolygon or a Feature of one", g.Type)
	}
	a := &polyArea{}
	index := s2.NewShapeIndex()
	points := 0
	for p, rings := range polygons {
		if len(rings) == 0 {
			return nil, geoError("polygon %d has no ring", p)
		}
		var poly ringed
		for r, ring := range rings {
			loop, err := loopOf(ring, pointsMax-points)
			if err != nil {
				return nil, geoError("ring %d of polygon %d %v", r, p, err)
			}
			points += loop.NumVertices()
			index.Add(loop)
			if r == 0 {
				poly.outer = loop
			} else {
				poly.holes = append(poly.holes, loop)
			}
		}
		a.polygons = append(a.polygons, poly)
	}
	if len(a.polygons) == 0 {
		return nil, geoError("has no polygon")
	}
	index.Build()
	a.edges = s2.NewClosestEdgeQuery(index, s2.NewClosestEdgeQueryOptions().MaxResults(1).IncludeInteriors(false))
	return a, nil
}

// loopOf returns the loop of a ring, with at most so many points.
func loopOf(ring [][]float64, most int) (*s2.Loop, error) {
	if len(ring) < 4 {
		return nil, fmt.Errorf("has %d positions; want at least 4, the last as the first", len(ring))
	}
	for i, p := range ring {
		if len(p) < 2 || len(p) > 3 || !(p[0] >= -180 && p[0] <= 180 && p[1] >= -90 && p[1] <= 90) {
			return nil, fmt.Errorf("has %v at position %d; want longitude, -180 to 180, and latitude, -90 to 90", p, i)
		}
	}
	if last := ring[len(ring)-1]; last[0] != ring[0][0] || last[1] != ring[0][1] {
		return nil, fmt.Errorf("ends at %v and begins at %v; want it closed", last, ring[0])
	}
	var pts []s2.Point
	for i := range len(ring) - 1 {
		var err error
		if pts, err = appendEdge(pts, ring[i], ring[i+1]); err != nil {
			return nil, err
		}
		if len(pts) > most {
			return nil, fmt.Errorf("takes the region over %d points", pointsMax)
		}
	}
	for len(pts) > 1 && pts[len(pts)-1] == pts[0] {
		pts = pts[:len(pts)-1]
	}
	if len(pts) < 3 {
		return nil, fmt.Errorf("has %d points that differ; want at least 3", len(pts))
	}
	loop := s2.LoopFromPoints(pts)
	if err := loop.Validate(); err != nil {
		return nil, fmt.Errorf("is not a simple ring: %w", err)
	}
	// Not by the loop's area: a ring that crosses itself has none that says
	// which side is meant.
	var sum r3.Vector
	for _, p := range pts {
		sum = sum.Add(p.Vector)
	}
	if sum.Norm() > 0 && loop.ContainsPoint(s2.Point{Vector: sum.Mul(-1).Normalize()}) {
		// Not Loop.Invert: it works out the new bound with the old one in
		// place, and so loses a pole.
		slices.Reverse(pts)
		loop = s2.LoopFromPoints(pts)
	}
	return loop, nil
}

// appendEdge appends the points of an edge, its end left out.
func appendEdge(pts []s2.Point, from, to []float64) ([]s2.Point, error) {
	dLng, dLat := to[0]-from[0], to[1]-from[1]
	if math.Abs(dLng) == 360 {
		return nil, fmt.Errorf("has an edge from %v to %v, around the world; want a bbox, or edges of less than 180°", from, to)
	}
	if math.Abs(dLng) > 180 {
		dLng -= math.Copysign(360, dLng)
	}
	n := max(1, math.Ceil(max(math.Abs(dLng), math.Abs(dLat))/edgeDegreesMax))
	for i := range int(n) {
		f := float64(i) / n
		p := pointAt(math.Remainder(from[0]+f*dLng, 360), from[1]+f*dLat)
		if len(pts) == 0 || pts[len(pts)-1] != p {
			pts = append(pts, p)
		}
	}
	return pts, nil
}
