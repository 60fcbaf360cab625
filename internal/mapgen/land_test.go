package mapgen

import (
	"testing"

	"github.com/mmcloughlin/geohash"

	"github.com/veltrix/cairn"
)

func cellAt(t testing.TB, lat, lng float64, precision uint) cairn.Cell {
	t.Helper()
	c, err := cairn.ParseCell(geohash.EncodeWithPrecision(lat, lng, precision))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLandMask(t *testing.T) {
	for _, at := range []struct {
		name     string
		lat, lng float64
		land     bool
	}{
		{"Oslo", 59.93, 10.76, true},
		{"London", 51.51, -0.12, true},
		{"Nairobi", -1.29, 36.82, true},
		{"Fiji, Viti Levu", -17.8, 178.0, true},
		{"Chukotka, west of 180°", 67.5, 178.5, true},
		{"Chukotka, east of 180°", 66.5, -175.5, true},
		{"South Pole", -89.9, 0, true},
		{"South Pole, the other side", -89.9, 179.9, true},
		{"Antarctica, Vostok", -78.46, 106.84, true},
		{"Antarctica, Marie Byrd Land", -80, -120, true},
		{"Greenland", 72, -40, true},
		{"Hokkaido", 43.4, 142.9, true},
		{"Tasmania", -42, 146.5, true},
		{"Lake Victoria: lakes are land", -1, 33, true},
		{"North Pole", 89.9, 0, false},
		{"mid Atlantic", 30, -40, false},
		{"mid Pacific", 0, -150, false},
		{"Pacific at +180°", 30, 179.99, false},
		{"Pacific at -180°", 30, -179.99, false},
		{"Indian Ocean", -30, 80, false},
		{"Southern Ocean", -60, 0, false},
		{"Caspian Sea: Natural Earth's ocean", 42, 50.5, false},
		{"Black Sea", 43, 34, false},
		{"North Sea", 56, 3, false},
		{"Bering Sea", 58, -178, false},
		{"off Fiji", -17.5, -175.5, false},
	} {
		n, of := land().count(cellAt(t, at.lat, at.lng, landPrecision))
		if got := n == of; got != at.land {
			t.Errorf("%s: land is %t, want %t", at.name, got, at.land)
		}
	}
}

// TestLandShare holds the whole mask to what geography says: 29.2% of the
// earth is land, weighing each cell by its area.
func TestLandShare(t *testing.T) {
	var isLand, of float64
	for b := range uint64(1 << 15) {
		c := cairn.CellOfBits(b, 3)
		n, total := land().count(c)
		box := boxOf(c)
		w := sinDeg(box.MaxLat) - sinDeg(box.MinLat)
		isLand += w * float64(n) / float64(total)
		of += w
	}
	if got := isLand / of; got < 0.280 || got > 0.300 {
		t.Errorf("land is %.4f of the earth, want 0.28 to 0.30", got)
	}
}

func TestLandCountsAgree(t *testing.T) {
	m := land()
	for p := range landPrecision {
		c := cellAt(t, 60, 10.7, uint(p))
		n, of := m.count(c)
		var sum, all uint64
		for v := range uint64(32) {
			k, o := m.count(cairn.CellOfBits(c.Bits()<<5|v, p+1))
			sum, all = sum+k, all+o
		}
		if sum != n || all != of {
			t.Errorf("%q has %d of %d, its parts %d of %d", c, n, of, sum, all)
		}
	}
}

func TestDecodeLandRefuses(t *testing.T) {
	for name, file := range map[string][]byte{
		"nothing":   nil,
		"not gzip":  []byte("land"),
		"cut short": landFile[:len(landFile)/2],
	} {
		if m, err := decodeLand(file); err == nil {
			t.Errorf("%s: got %p, want an error", name, m)
		}
	}
}

func BenchmarkDecodeLand(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeLand(landFile); err != nil {
			b.Fatal(err)
		}
	}
}
