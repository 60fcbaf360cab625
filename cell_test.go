package cairn

import (
	"cmp"
	"encoding/json"
	"strings"
	"testing"

	"github.com/mmcloughlin/geohash"
	"pgregory.net/rapid"
)

func mustCell(t *testing.T, s string) Cell {
	t.Helper()
	c, err := ParseCell(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func geohashes() *rapid.Generator[string] {
	return rapid.StringMatching(`[0-9bcdefghjkmnp-z]{0,12}`)
}

// TestCellText: the text of a cell is what was parsed, in each form.
func TestCellText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := geohashes().Draw(t, "geohash")
		c, err := ParseCell(s)
		if err != nil {
			t.Fatal(err)
		}
		if c.String() != s || c.Precision() != len(s) {
			t.Fatalf("cell of %q is %q with %d characters", s, c, c.Precision())
		}
		j, err := json.Marshal(map[string]Cell{"c": c})
		if want := `{"c":"` + s + `"}`; err != nil || string(j) != want {
			t.Fatalf("JSON %s, %v, want %s", j, err, want)
		}
		var back map[string]Cell
		if err := json.Unmarshal(j, &back); err != nil || back["c"] != c {
			t.Fatalf("back from JSON: %v, %v, want %v", back, err, c)
		}
		if got := CellOfBits(c.Bits(), c.Precision()); got != c {
			t.Fatalf("CellOfBits(%#x, %d) = %q, want %q", c.Bits(), c.Precision(), got, c)
		}
	})
}

// TestCellOfPoint compares with an independent geohash library.
func TestCellOfPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lat := rapid.Float64Range(-89.999, 89.999).Draw(t, "lat")
		lon := rapid.Float64Range(-179.999, 179.999).Draw(t, "lon")
		n := rapid.IntRange(1, CellPrecisionMax).Draw(t, "precision")
		want := geohash.EncodeWithPrecision(lat, lon, uint(n))
		got := CellOfBits(geohash.EncodeIntWithPrecision(lat, lon, uint(5*n)), n)
		if got.String() != want {
			t.Fatalf("cell of %v,%v is %q, want %q", lat, lon, got, want)
		}
		parsed, err := ParseCell(want)
		if err != nil || parsed != got || parsed.Bits() != geohash.EncodeIntWithPrecision(lat, lon, uint(5*n)) {
			t.Fatalf("ParseCell(%q) = %q, %v, want %q", want, parsed, err, got)
		}
	})
}

// TestCellOrder: cells contain and cut as their text does, and those of one
// precision sort as their text does.
func TestCellOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := geohashes().Draw(t, "a")
		u := geohashes().Draw(t, "b")
		if shared := rapid.IntRange(0, len(s)).Draw(t, "shared"); rapid.Bool().Draw(t, "related") {
			u = (s[:shared] + u)[:min(CellPrecisionMax, shared+len(u))]
		}
		a, errA := ParseCell(s)
		b, errB := ParseCell(u)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if got, want := a.Contains(b), strings.HasPrefix(u, s); got != want {
			t.Fatalf("%q contains %q: %v, want %v", s, u, got, want)
		}
		if n := rapid.IntRange(0, 15).Draw(t, "n"); a.Prefix(n).String() != s[:min(n, len(s))] {
			t.Fatalf("%q cut to %d is %q", s, n, a.Prefix(n))
		}
		if len(s) == len(u) && cmp.Compare(a, b) != strings.Compare(s, u) {
			t.Fatalf("%q and %q compare as %d", s, u, cmp.Compare(a, b))
		}
	})
}

func TestParseCellRefuses(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"u4xsudv9u4xsu", "13 characters, want at most 12"},
		{"u4a", `character 'a' is not one of`},
		{"u4i", `character 'i' is not one of`},
		{"u4l", `character 'l' is not one of`},
		{"u4o", `character 'o' is not one of`},
		{"U4", `character 'U' is not one of`},
		{"u 4", `character ' ' is not one of`},
		{"ü", "is not one of"},
		{"u4\x00", "is not one of"},
		{strings.Repeat("u", 1<<20), "want at most 12"},
	} {
		if c, err := ParseCell(tc.in); err == nil || !strings.Contains(err.Error(), tc.want) || len(err.Error()) > 150 || c != 0 {
			t.Errorf("ParseCell(%.20q) = %q, %.200v, want an error with %q", tc.in, c, err, tc.want)
		}
	}
	var c Cell
	if err := c.UnmarshalText([]byte("a")); err == nil {
		t.Error("UnmarshalText(a): no error")
	}
}

func TestWorld(t *testing.T) {
	world := mustCell(t, "")
	if world != 0 || world.Bits() != 0 || !world.Contains(mustCell(t, "u4xs")) || !world.Contains(world) || mustCell(t, "u").Contains(world) {
		t.Error("the empty geohash is not the world")
	}
}
