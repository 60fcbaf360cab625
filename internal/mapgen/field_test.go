package mapgen

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/veltrix/cairn"
)

func geoRegion(s string) cairn.Region { return cairn.Region{GeoJSON: json.RawMessage(s)} }

func polygon(rings string) cairn.Region {
	return geoRegion(`{"type":"Polygon","coordinates":` + rings + `}`)
}

// TestFieldEqualsBruteForce compares the cells found by descent with a test of
// every cell of that precision.
func TestFieldEqualsBruteForce(t *testing.T) {
	for name, r := range regions() {
		for _, mask := range []cairn.Mask{cairn.MaskLand, cairn.MaskNone} {
			h := testHunt(t, r, 200)
			h.Mask = mask
			a, err := areaOf(r)
			if err != nil {
				t.Fatal(err)
			}
			b := &builder{area: a}
			if mask == cairn.MaskLand {
				b.land = land()
			}
			deepest := 3
			if name == "norway" || name == "over ±180°" {
				deepest = 4
			}
			for p := 1; p <= deepest; p++ {
				f := b.build(p)
				f.index()
				n := uint64(0)
				for v := range uint64(1) << (5 * p) {
					c := cairn.CellOfBits(v, p)
					ashore, of := land().count(c)
					want := a.has(c) && (mask == cairn.MaskNone || 2*ashore >= of)
					if f.Has(c) != want {
						t.Fatalf("%s, mask %s: cell %v is valid: %t, want %t", name, mask, c, f.Has(c), want)
					}
					if want {
						if f.cell(n) != c {
							t.Fatalf("%s, mask %s: cell %d is %v, want %v", name, mask, n, f.cell(n), c)
						}
						n++
					}
				}
				if f.size != n {
					t.Fatalf("%s, mask %s: %d cells of precision %d, want %d", name, mask, f.size, p, n)
				}
			}
		}
	}
}

// TestPrecision holds the rule of precision, region by region.
func TestPrecision(t *testing.T) {
	for name, r := range regions() {
		for _, tiles := range []int{1, 1000, 65536} {
			h := testHunt(t, r, tiles)
			f := mustField(t, h)
			a, _ := areaOf(r)
			b := &builder{area: a, land: land(), tiles: uint64(tiles)}
			want := uint64(spare * tiles * 30) // maps open at once: a lifetime of 30s, a tick of 1s
			if f.precision >= precisionUsual && f.size < want {
				want = uint64(tiles)
			}
			if f.size < want {
				t.Errorf("%s, %d tiles: %d cells of precision %d, want at least %d", name, tiles, f.size, f.precision, want)
			}
			if f.precision == precisionUsual { // the finest that is asked to be roomy
				want = uint64(spare * tiles * 30)
			}
			if c := b.build(max(1, f.precision-1)); f.precision > 1 && c.size >= want {
				t.Errorf("%s, %d tiles: precision %d, and %d cells of the one before would do", name, tiles, f.precision, c.size)
			}
		}
	}
}

func TestFieldOfPolygon(t *testing.T) {
	ccw := `[[0,45],[10,45],[10,50],[0,50],[0,45]]`
	cw := `[[0,45],[0,50],[10,50],[10,45],[0,45]]`
	hole := `[[4,46],[6,46],[6,48],[4,48],[4,46]]`
	for _, c := range []struct {
		name      string
		region    cairn.Region
		in, notIn [][2]float64 // latitude, longitude
	}{
		{"counterclockwise", polygon(`[` + ccw + `]`), [][2]float64{{47, 5}, {45.1, 0.1}}, [][2]float64{{44, 5}, {47, 11}, {-47, 5}}},
		{"clockwise", polygon(`[` + cw + `]`), [][2]float64{{47, 5}, {45.1, 0.1}}, [][2]float64{{44, 5}, {47, 11}, {-47, 5}}},
		{"hole", polygon(`[` + ccw + `,` + hole + `]`), [][2]float64{{45.5, 5}, {49, 5}}, [][2]float64{{47, 5}}},
		{"feature", geoRegion(`{"type":"Feature","properties":{"a":1},"geometry":{"type":"Polygon","coordinates":[` + cw + `]}}`), [][2]float64{{47, 5}}, [][2]float64{{51, 5}}},
		{"two polygons", geoRegion(`{"type":"MultiPolygon","coordinates":[[` + ccw + `,` + hole + `],[[[20,45],[22,45],[22,47],[20,45]]]]}`), [][2]float64{{45.5, 5}, {45.5, 21.5}}, [][2]float64{{47, 5}, {46.5, 20.2}, {46, 15}}},
		{"over ±180°", polygon(`[[[177,-19],[-179,-19],[-179,-16],[177,-16],[177,-19]]]`), [][2]float64{{-17.5, 178}, {-17.5, -179.5}}, [][2]float64{{-17.5, 0}, {-17.5, 176}, {-17.5, -178}}},
		{"box over ±180°", cairn.Region{BBox: []float64{177, -19, -179, -16}}, [][2]float64{{-17.5, 178}, {-17.5, -179.5}}, [][2]float64{{-17.5, 0}, {-17.5, 176}, {-17.5, -178}}},
		{"a bow tie", polygon(`[[[0,45],[10,50],[10,45],[0,50],[0,45]]]`), [][2]float64{{47.5, 1}, {47.5, 9}}, [][2]float64{{49.5, 5}, {45.5, 5}, {-47, 0}}},
		{"around the pole", polygon(`[[[-180,-80],[-90,-80],[0,-80],[90,-80],[-180,-80]]]`), [][2]float64{{-85, 10}, {-89, 170}}, [][2]float64{{-79, 10}, {85, 10}}},
		{"long edges are straight on the map", polygon(`[[[-60,60],[60,60],[60,70],[-60,70],[-60,60]]]`), [][2]float64{{60.5, 0}, {69.5, 0}}, [][2]float64{{59.5, 0}, {72, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := testHunt(t, c.region, 5000)
			h.Mask = cairn.MaskNone
			f := mustField(t, h)
			for _, p := range c.in {
				if cell := cellAt(t, p[0], p[1], uint(f.Precision())); !f.Has(cell) {
					t.Errorf("%v, cell %v, is not in the field", p, cell)
				}
			}
			for _, p := range c.notIn {
				if cell := cellAt(t, p[0], p[1], uint(f.Precision())); f.Has(cell) {
					t.Errorf("%v, cell %v, is in the field", p, cell)
				}
			}
		})
	}
}

func TestNewFieldRefuses(t *testing.T) {
	ring := func(s string) string { return `{"type":"Polygon","coordinates":[` + s + `]}` }
	for _, c := range []struct {
		name   string
		region cairn.Region
		tiles  int
		field  string
		want   string
	}{
		{"sea", cairn.Region{BBox: []float64{-42, 29, -38, 31}}, 1000, "region.bbox", "has 0 valid cells on land"},
		{"sea as geohash", geohashRegion(t, "dp0"), 1, "", ""}, // Lake Michigan's surroundings: land
		{"one finest cell", geohashRegion(t, "u4xsudv0b2c5"), 2, "region.geohash", "has 1 valid cells"},
		{"not JSON", geoRegion(`{`), 1, "region.geojson", "is not GeoJSON"},
		{"point", geoRegion(`{"type":"Point","coordinates":[1,2]}`), 1, "region.geojson", `is of type "Point"`},
		{"no type", geoRegion(`{}`), 1, "region.geojson", `is of type ""`},
		{"empty feature", geoRegion(`{"type":"Feature","geometry":null}`), 1, "region.geojson", "without a geometry"},
		{"nested feature", geoRegion(`{"type":"Feature","geometry":{"type":"Feature"}}`), 1, "region.geojson", `is of type "Feature"`},
		{"wrong depth", geoRegion(`{"type":"Polygon","coordinates":[[1,2],[3,4]]}`), 1, "region.geojson", "not a Polygon's"},
		{"no coordinates", geoRegion(`{"type":"MultiPolygon"}`), 1, "region.geojson", "not a MultiPolygon's"},
		{"no polygon", geoRegion(`{"type":"MultiPolygon","coordinates":[]}`), 1, "region.geojson", "has no polygon"},
		{"no ring", geoRegion(`{"type":"Polygon","coordinates":[]}`), 1, "region.geojson", "polygon 0 has no ring"},
		{"short ring", geoRegion(ring(`[[0,0],[1,1],[0,0]]`)), 1, "region.geojson", "has 3 positions"},
		{"open ring", geoRegion(ring(`[[0,0],[1,0],[1,1],[0,1]]`)), 1, "region.geojson", "want it closed"},
		{"longitude", geoRegion(ring(`[[0,0],[181,0],[1,1],[0,0]]`)), 1, "region.geojson", "position 1"},
		{"latitude", geoRegion(ring(`[[0,0],[1,0],[1,-91],[0,0]]`)), 1, "region.geojson", "position 2"},
		{"position of one", geoRegion(ring(`[[0,0],[1],[1,1],[0,0]]`)), 1, "region.geojson", "position 1"},
		{"around the world", geoRegion(ring(`[[-180,-60],[180,-60],[180,-80],[-180,-80],[-180,-60]]`)), 1, "region.geojson", "around the world"},
		{"one point", geoRegion(ring(`[[1,1],[1,1],[1,1],[1,1]]`)), 1, "region.geojson", "has 1 points that differ"},
		{"there and back", geoRegion(ring(`[[10,48],[10.5,48],[10.9,48],[10.5,48],[10,48]]`)), 1, "region.geojson", "is too thin: it has 0 valid cells"},
		{"too many tiles", geohashRegion(t, "u4xs"), cairn.TilesPerMapMax + 1, "tiles_per_map", "is 65537"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewField(testHunt(t, c.region, c.tiles))
			if c.want == "" {
				if err != nil {
					t.Fatalf("got %v, want a field", err)
				}
				return
			}
			var field *cairn.FieldError
			if !errors.As(err, &field) {
				t.Fatalf("got %v, want a FieldError", err)
			}
			if field.Field != c.field || !strings.Contains(field.Msg, c.want) {
				t.Errorf("got %v, want %s: … %s", err, c.field, c.want)
			}
		})
	}
}

// TestTinyRegions shows that a block, and a room, can hold a hunt.
func TestTinyRegions(t *testing.T) {
	for _, c := range []struct {
		meters    float64
		tiles     int
		precision int
	}{
		{100_000, 1000, 7}, {1000, 100, 8}, {100, 1000, 10}, {5, 10, 10},
	} {
		d := c.meters / 111_320 / 2
		r := cairn.Region{BBox: []float64{36.82 - d, -1.29 - d, 36.82 + d, -1.29 + d}}
		f := mustField(t, testHunt(t, r, c.tiles))
		if f.Precision() != c.precision {
			t.Errorf("%v m, %d tiles: precision %d of %d cells, want %d", c.meters, c.tiles, f.Precision(), f.Size(), c.precision)
		}
	}
}

func FuzzGeoJSON(f *testing.F) {
	for _, r := range regions() {
		if len(r.GeoJSON) > 0 {
			f.Add([]byte(r.GeoJSON))
		}
	}
	f.Add([]byte(`{"type":"Polygon","coordinates":[[[0,0],[0,90],[90,90],[0,0]]]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 2000 {
			return
		}
		a, err := polyAreaOf(raw)
		var field *cairn.FieldError
		if err != nil && !errors.As(err, &field) {
			t.Fatalf("%s: got %v, want a FieldError", raw, err)
		}
		if err == nil {
			(&builder{area: a, tiles: 10}).build(2)
		}
	})
}

func ExampleNewField() {
	_, err := NewField(cairn.Hunt{
		Name:   "atlantis",
		Region: cairn.Region{BBox: []float64{-42, 29, -38, 31}},
	})
	fmt.Println(err)
	// Output: region.bbox: has 0 valid cells on land (mask: none takes those at sea, too) at the finest precision, 12; want at least tiles_per_map, 1000
}
