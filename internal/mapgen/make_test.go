package mapgen

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

func sinDeg(d float64) float64 { return math.Sin(d * math.Pi / 180) }

var testKey = [32]byte([]byte("0123456789abcdef0123456789abcdef"))

func geohashRegion(t testing.TB, s string) cairn.Region {
	t.Helper()
	c, err := cairn.ParseCell(s)
	if err != nil {
		t.Fatal(err)
	}
	return cairn.Region{Geohash: &c}
}

func testHunt(t testing.TB, region cairn.Region, tiles int) cairn.Hunt {
	t.Helper()
	return cairn.Hunt{
		Name: "test", Region: region, TilesPerMap: tiles,
		Puzzles: map[cairn.PuzzleKind]int{cairn.Tap: 1, cairn.Lights: 3},
		Reward:  cairn.Reward{Min: 100, Max: 5000, Budget: 1_000_000_000},
	}.WithDefaults()
}

func mustField(t testing.TB, h cairn.Hunt) *Field {
	t.Helper()
	f, err := NewField(h)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestMakeGolden pins the bytes of maps: a change here makes every map that is
// in a log impossible to make again.
func TestMakeGolden(t *testing.T) {
	h := testHunt(t, geohashRegion(t, "u4xs"), 1000)
	f := mustField(t, h)
	m := f.Make(testKey, &h, 1_800_000_000, 50_000_000, cairn.Digest{1})
	if got, want := f.Precision(), 8; got != want {
		t.Errorf("precision is %d, want %d", got, want)
	}
	if got, want := m.Digest.String(), "5c095b7c47455563e0d6cfbd6b6f51667613eb6a596cff539b35c1f7371d4af7"; got != want {
		t.Errorf("digest is %s, want %s", got, want)
	}
	if got, want := m.Tiles[0].Cell.String(), "u4xsu35j"; got != want {
		t.Errorf("first tile is %s, want %s", got, want)
	}
	if got, want := m.Offer, cairn.Micro(2_533_234); got != want {
		t.Errorf("offer is %d, want %d", got, want)
	}
}

// regions are of every form and size.
func regions() map[string]cairn.Region {
	world, oslo := cairn.Cell(0), cairn.CellOfBits(0, 0)
	if c, err := cairn.ParseCell("u4xs"); err == nil {
		oslo = c
	}
	return map[string]cairn.Region{
		"world":      {Geohash: &world},
		"oslo":       {Geohash: &oslo},
		"one block":  {BBox: []float64{10.7500, 59.9130, 10.7515, 59.9138}},
		"over ±180°": {BBox: []float64{177, -19, -179, -16}},
		"norway":     {GeoJSON: json.RawMessage(`{"type":"Polygon","coordinates":[[[5,58],[12,58],[31,71],[25,71.5],[5,62],[5,58]]]}`)},
		"a hole":     {GeoJSON: json.RawMessage(`{"type":"Feature","properties":{},"geometry":{"type":"Polygon","coordinates":[[[0,45],[10,45],[10,50],[0,50],[0,45]],[[4,46],[6,46],[6,48],[4,48],[4,46]]]}}`)},
	}
}

// TestMakeProperties draws maps of all sorts and holds what every map promises.
func TestMakeProperties(t *testing.T) {
	fields := map[string]*Field{}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"world", "oslo", "one block", "over ±180°", "norway", "a hole"}).Draw(t, "region")
		tiles := rapid.SampledFrom([]int{1, 7, 100, 1000, 3000}).Draw(t, "tiles")
		mask := rapid.SampledFrom([]cairn.Mask{cairn.MaskLand, cairn.MaskNone}).Draw(t, "mask")
		h := cairn.Hunt{Name: "p", Region: regions()[name], TilesPerMap: tiles, Mask: mask, Puzzles: map[cairn.PuzzleKind]int{}}
		for _, k := range cairn.PuzzleKinds() {
			h.Puzzles[k] = rapid.IntRange(0, 3).Draw(t, k.String())
		}
		h.Puzzles[cairn.Echo]++
		h.Reward.Min = cairn.Micro(rapid.Int64Range(0, int64(cairn.RewardMax)).Draw(t, "min"))
		h.Reward.Max = cairn.Micro(rapid.Int64Range(int64(h.Reward.Min), int64(cairn.RewardMax)).Draw(t, "max"))
		h = h.WithDefaults()
		id := fmt.Sprint(name, mask, tiles)
		if fields[id] == nil {
			f, err := NewField(h)
			if err != nil {
				t.Fatal(err)
			}
			fields[id] = f
		}
		f := fields[id]
		if f.Size() < tiles {
			t.Fatalf("%s has %d cells for %d tiles", name, f.Size(), tiles)
		}
		budget := cairn.Micro(rapid.Int64Range(-10, int64(cairn.RewardMax)*int64(tiles)*2).Draw(t, "budget"))
		tick := cairn.Tick(rapid.Int64Range(0, 1<<40).Draw(t, "tick"))
		m := f.Make(testKey, &h, tick, budget, cairn.Digest{})
		checkMap(t, f, &h, m, max(0, budget))
		if again := f.Make(testKey, &h, tick, budget, cairn.Digest{}); again.Digest != m.Digest {
			t.Fatalf("made again: digest %v, want %v", again.Digest, m.Digest)
		}
		other := testKey
		other[0]++
		if f.Size() > 2*tiles && tiles >= 100 && wire.MapDigest(f.Make(other, &h, tick, budget, cairn.Digest{})) == m.Digest {
			t.Fatal("another key makes the same map")
		}
	})
}

func checkMap(t *rapid.T, f *Field, h *cairn.Hunt, m *cairn.Map, budget cairn.Micro) {
	a, err := areaOf(h.Region)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[cairn.Cell]bool{}
	sum := cairn.Micro(0)
	for i, tile := range m.Tiles {
		if seen[tile.Cell] {
			t.Fatalf("tile %d: cell %v twice", i, tile.Cell)
		}
		seen[tile.Cell] = true
		if !f.Has(tile.Cell) || !a.has(tile.Cell) {
			t.Fatalf("tile %d: cell %v is not in the region", i, tile.Cell)
		}
		if n, of := land().count(tile.Cell); h.Mask == cairn.MaskLand && 2*n < of {
			t.Fatalf("tile %d: cell %v is at sea", i, tile.Cell)
		}
		if h.Puzzles[tile.Puzzle] == 0 {
			t.Fatalf("tile %d: puzzle %v has no weight", i, tile.Puzzle)
		}
		if r := tile.Reward; r != 0 && (r < h.Reward.Min || r > h.Reward.Max) {
			t.Fatalf("tile %d: reward %d, want 0 or %d to %d", i, r, h.Reward.Min, h.Reward.Max)
		}
		sum += tile.Reward
	}
	if sum != m.Offer || sum > budget {
		t.Fatalf("rewards sum to %d, offer %d, budget %d", sum, m.Offer, budget)
	}
	if n := cairn.Micro(h.TilesPerMap); budget >= h.Reward.Min*n && budget < h.Reward.Max*n && h.Reward.Min > 0 {
		for i, tile := range m.Tiles {
			if tile.Reward == 0 {
				t.Fatalf("tile %d has no reward of a budget of %d for %d tiles from %d", i, budget, n, h.Reward.Min)
			}
		}
	}
	if m.Closes.Sub(m.Opens) != time.Duration(h.Lifetime) || m.Opens.Time() != time.UnixMilli(int64(m.Tick)*time.Duration(h.Tick).Milliseconds()).UTC() {
		t.Fatalf("map %d is open %v to %v", m.Tick, m.Opens, m.Closes)
	}
	if m.Digest != wire.MapDigest(m) || m.Tiles == nil || len(m.Tiles) != m.MapHeader.Tiles {
		t.Fatalf("header %+v does not fit its map", m.MapHeader)
	}
}

// TestBudgetSpread shows the rule of a budget that reaches for a part.
func TestBudgetSpread(t *testing.T) {
	h := testHunt(t, geohashRegion(t, "u4xs"), 1000)
	f := mustField(t, h)
	for _, c := range []struct {
		budget    cairn.Micro
		least     cairn.Micro // of the offer
		rewarding int         // tiles with a reward
	}{
		{0, 0, 0},
		{99, 0, 0},
		{100, 100, 1},
		{99_999, 99_900, 999},
		{100_000, 100_000, 1000},
		{1_000_000, 999_000, 1000}, // rounding loses less than a micro-unit a tile
		{5_000_000, 1_000_000, 1000},
	} {
		m := f.Make(testKey, &h, 7, c.budget, cairn.Digest{})
		n := 0
		for _, tile := range m.Tiles {
			if tile.Reward > 0 {
				n++
			}
		}
		if m.Offer > c.budget || m.Offer < c.least || n != c.rewarding {
			t.Errorf("budget %d: %d tiles offer %d, want %d tiles, %d to %d", c.budget, n, m.Offer, c.rewarding, c.least, c.budget)
		}
	}
}

// TestMakeSpread holds the draws to be uniform: over 200 maps each of the 32
// parts of the region gets its share of the 200,000 tiles, within 6 σ.
func TestMakeSpread(t *testing.T) {
	h := testHunt(t, geohashRegion(t, "u33"), 1000)
	h.Mask = cairn.MaskNone
	f := mustField(t, h)
	parts, kinds := map[cairn.Cell]int{}, map[cairn.PuzzleKind]int{}
	const maps = 200
	for tick := range cairn.Tick(maps) {
		for _, tile := range f.Make(testKey, &h, tick, 0, cairn.Digest{}).Tiles {
			parts[tile.Cell.Prefix(4)]++
			kinds[tile.Puzzle]++
		}
	}
	within := func(what string, got int, p float64) {
		n := float64(maps * h.TilesPerMap)
		if sigma := math.Sqrt(n * p * (1 - p)); math.Abs(float64(got)-n*p) > 6*sigma {
			t.Errorf("%s: %d tiles, want %.0f ± %.0f", what, got, n*p, 6*sigma)
		}
	}
	if len(parts) != 32 {
		t.Errorf("%d parts have tiles, want 32", len(parts))
	}
	for c, n := range parts {
		within(c.String(), n, 1./32)
	}
	within("tap", kinds[cairn.Tap], 0.25)
	within("lights", kinds[cairn.Lights], 0.75)
}

func benchmarkMake(b *testing.B, region string, tiles int) {
	h := testHunt(b, geohashRegion(b, region), tiles)
	f := mustField(b, h)
	b.ReportAllocs()
	tick := cairn.Tick(0)
	for b.Loop() {
		f.Make(testKey, &h, tick, 1_000_000_000, cairn.Digest{})
		tick++
	}
}

func BenchmarkMake(b *testing.B) {
	b.Run("region=u4xs/tiles=1000", func(b *testing.B) { benchmarkMake(b, "u4xs", 1000) })
	b.Run("region=u4xs/tiles=65536", func(b *testing.B) { benchmarkMake(b, "u4xs", 65536) })
	b.Run("region=world/tiles=1000", func(b *testing.B) { benchmarkMake(b, "", 1000) })
	b.Run("region=world/tiles=65536", func(b *testing.B) { benchmarkMake(b, "", 65536) })
}

func BenchmarkNewField(b *testing.B) {
	land()
	for name, r := range regions() {
		for _, tiles := range []int{1000, 65536} {
			h := testHunt(b, r, tiles)
			b.Run(fmt.Sprintf("region=%s/tiles=%d", name, tiles), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					mustField(b, h)
				}
			})
		}
	}
}
