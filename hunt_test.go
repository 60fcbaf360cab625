package cairn

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func goodHunt() Hunt {
	cell := Cell(26)<<59 | 1 // "u"
	return Hunt{Name: "oslo-winter", Region: Region{Geohash: &cell}, Reward: Reward{Min: 100, Max: 5000, Budget: 50_000_000}}.WithDefaults()
}

func TestWithDefaults(t *testing.T) {
	h := goodHunt()
	if err := h.Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
	if h.Mask != MaskLand || h.TilesPerMap != 1000 || h.Tick != Duration(time.Second) || h.Lifetime != Duration(30*time.Second) ||
		h.Shards != 24 || !maps.Equal(h.Puzzles, map[PuzzleKind]int{Tap: 1}) {
		t.Errorf("defaults are %+v", h)
	}
	set := Hunt{Mask: MaskNone, TilesPerMap: 1, Tick: 2, Lifetime: 3, Shards: 4, Puzzles: map[PuzzleKind]int{Odd: 5}}
	if got := set.WithDefaults(); got.Mask != MaskNone || got.TilesPerMap != 1 || got.Tick != 2 || got.Lifetime != 3 || got.Shards != 4 || got.Puzzles[Odd] != 5 {
		t.Errorf("WithDefaults replaced what was set: %+v", got)
	}
}

// TestValidate makes every field wrong in each way, and right at its bounds.
func TestValidate(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	bbox := func(v ...float64) func(*Hunt) {
		return func(h *Hunt) { h.Region = Region{BBox: v} }
	}
	for _, tc := range []struct {
		name string
		set  func(*Hunt)
		want string // of the error; "" is none
	}{
		{"name empty", func(h *Hunt) { h.Name = "" }, `name: is ""; want 1 to 63`},
		{"name longest", func(h *Hunt) { h.Name = HuntID(strings.Repeat("a", 63)) }, ""},
		{"name too long", func(h *Hunt) { h.Name = HuntID(strings.Repeat("a", 64)) }, "name: is"},
		{"name upper case", func(h *Hunt) { h.Name = "Oslo" }, "name: is"},
		{"name begins with -", func(h *Hunt) { h.Name = "-oslo" }, "name: is"},
		{"name slash", func(h *Hunt) { h.Name = "a/b" }, "name: is"},
		{"name space", func(h *Hunt) { h.Name = "a b" }, "name: is"},
		{"name not ASCII", func(h *Hunt) { h.Name = "tromsø" }, "name: is"},
		{"name not UTF-8", func(h *Hunt) { h.Name = "a\xff" }, "name: is"},
		{"name digit", func(h *Hunt) { h.Name = "1-a" }, ""},

		{"region none", func(h *Hunt) { h.Region = Region{} }, "region: has 0 of"},
		{"region two", func(h *Hunt) { h.Region.BBox = []float64{0, 0, 1, 1} }, "region: has 2 of"},
		{"region three", func(h *Hunt) {
			h.Region.BBox, h.Region.GeoJSON = []float64{0, 0, 1, 1}, json.RawMessage(`{}`)
		}, "region: has 3 of"},
		{"region geojson", func(h *Hunt) { h.Region = Region{GeoJSON: json.RawMessage(`{}`)} }, ""},
		{"region world", func(h *Hunt) { *h.Region.Geohash = 0 }, ""},
		{"bbox", bbox(-10, 50, 10, 60), ""},
		{"bbox across the date line", bbox(170, -10, -170, 10), ""},
		{"bbox widest", bbox(-180, -90, 180, 90), ""},
		{"bbox short", bbox(1, 2, 3), "region.bbox: has 3 numbers"},
		{"bbox empty", bbox([]float64{}...), "region"},
		{"bbox long", bbox(1, 2, 3, 4, 5), "region.bbox: has 5 numbers"},
		{"bbox west", bbox(-180.1, 0, 1, 1), "region.bbox: is"},
		{"bbox east", bbox(0, 0, 180.1, 1), "region.bbox: is"},
		{"bbox south", bbox(0, -90.1, 1, 1), "region.bbox: is"},
		{"bbox north", bbox(0, 0, 1, 90.1), "region.bbox: is"},
		{"bbox upside down", bbox(0, 2, 1, 1), "region.bbox: is"},
		{"bbox flat", bbox(0, 1, 1, 1), "region.bbox: is"},
		{"bbox thin", bbox(1, 0, 1, 1), "region.bbox: is"},
		{"bbox NaN west", bbox(nan, 0, 1, 1), "region.bbox: is"},
		{"bbox NaN south", bbox(0, nan, 1, 1), "region.bbox: is"},
		{"bbox NaN east", bbox(0, 0, nan, 1), "region.bbox: is"},
		{"bbox NaN north", bbox(0, 0, 1, nan), "region.bbox: is"},
		{"bbox infinite", bbox(-inf, -inf, inf, inf), "region.bbox: is"},

		{"mask", func(h *Hunt) { h.Mask = "sea" }, `mask: is "sea"; want land or none`},
		{"mask none", func(h *Hunt) { h.Mask = MaskNone }, ""},
		{"tiles 1", func(h *Hunt) { h.TilesPerMap = 1 }, ""},
		{"tiles most", func(h *Hunt) { h.TilesPerMap = 65_536 }, ""},
		{"tiles too many", func(h *Hunt) { h.TilesPerMap = 65_537 }, "tiles_per_map: is 65537; want 1 to 65536"},
		{"tiles negative", func(h *Hunt) { h.TilesPerMap = -1 }, "tiles_per_map: is -1"},
		{"tick shortest", func(h *Hunt) { h.Tick = Duration(100 * time.Millisecond) }, ""},
		{"tick too short", func(h *Hunt) { h.Tick = Duration(99 * time.Millisecond) }, "tick: is 99ms; want 100ms to 1h0m0s"},
		{"tick negative", func(h *Hunt) { h.Tick = -1 }, "tick: is -1ns"},
		{"tick longest", func(h *Hunt) { h.Tick = Duration(time.Hour) }, ""},
		{"tick too long", func(h *Hunt) { h.Tick = Duration(time.Hour + time.Millisecond) }, "tick: is"},
		{"tick uneven", func(h *Hunt) { h.Tick = Duration(time.Second + time.Microsecond) }, "whole milliseconds"},
		{"lifetime shortest", func(h *Hunt) { h.Lifetime = Duration(100 * time.Millisecond) }, ""},
		{"lifetime too short", func(h *Hunt) { h.Lifetime = Duration(99 * time.Millisecond) }, "lifetime: is 99ms"},
		{"lifetime longest", func(h *Hunt) { h.Lifetime = Duration(time.Hour) }, ""},
		{"lifetime too long", func(h *Hunt) { h.Lifetime = Duration(time.Hour + time.Millisecond) }, "lifetime: is"},
		{"lifetime uneven", func(h *Hunt) { h.Lifetime = Duration(time.Second + 1) }, "whole milliseconds"},
		{"shards 1", func(h *Hunt) { h.Shards = 1 }, ""},
		{"shards most", func(h *Hunt) { h.Shards = 1024 }, ""},
		{"shards too many", func(h *Hunt) { h.Shards = 1025 }, "shards: is 1025; want 1 to 1024"},
		{"shards negative", func(h *Hunt) { h.Shards = -1 }, "shards: is -1"},

		{"puzzles no weight", func(h *Hunt) { h.Puzzles = map[PuzzleKind]int{Tap: 0, Odd: 0} }, "puzzles: has no weight"},
		{"puzzles all", func(h *Hunt) { h.Puzzles = map[PuzzleKind]int{Tap: 0, Cipher: 1, Lights: 1000, Echo: 2, Odd: 3} }, ""},
		{"puzzles negative", func(h *Hunt) { h.Puzzles = map[PuzzleKind]int{Tap: 1, Echo: -1} }, "puzzles.echo: is -1; want a weight of 0 to 1000"},
		{"puzzles heavy", func(h *Hunt) { h.Puzzles = map[PuzzleKind]int{Tap: 1001} }, "puzzles.tap: is 1001"},
		{"puzzles unknown", func(h *Hunt) { h.Puzzles = map[PuzzleKind]int{9: 1, Tap: 1} }, "puzzles.puzzle kind 9"},

		{"reward nothing", func(h *Hunt) { h.Reward = Reward{} }, ""},
		{"reward most", func(h *Hunt) { h.Reward = Reward{Min: RewardMax, Max: RewardMax, Budget: BudgetMax} }, ""},
		{"reward min negative", func(h *Hunt) { h.Reward.Min = -1 }, "reward.min: is -1; want 0 to 1000000000000"},
		{"reward min too much", func(h *Hunt) { h.Reward.Min = RewardMax + 1 }, "reward.min: is"},
		{"reward max negative", func(h *Hunt) { h.Reward = Reward{Max: -1} }, "reward.max: is -1"},
		{"reward max too much", func(h *Hunt) { h.Reward.Max = RewardMax + 1 }, "reward.max: is 1000000000001"},
		{"reward min above max", func(h *Hunt) { h.Reward.Min = 5001 }, "reward.min: is 5001, above reward.max, 5000"},
		{"budget negative", func(h *Hunt) { h.Reward.Budget = -1 }, "reward.budget: is -1"},
		{"budget too much", func(h *Hunt) { h.Reward.Budget = BudgetMax + 1 }, "reward.budget: is"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := goodHunt()
			tc.set(&h)
			err := h.Validate()
			if tc.want == "" {
				if err != nil {
					t.Fatalf("Validate: %v, want no error", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("Validate: %v, want an error with %q", err, tc.want)
			}
			var fe *FieldError
			if !errors.As(err, &fe) {
				t.Errorf("%v is no FieldError", err)
			}
		})
	}
}

// TestValidateReportsAll: one answer tells all that is wrong.
func TestValidateReportsAll(t *testing.T) {
	h := Hunt{Puzzles: map[PuzzleKind]int{Odd: -1}, Reward: Reward{Min: -1, Max: -2, Budget: -3}}
	err := h.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"name", "region", "mask", "tiles_per_map", "tick", "lifetime", "shards", "puzzles.odd", "puzzles", "reward.min", "reward.max", "reward.budget"} {
		if !strings.Contains("\n"+err.Error(), "\n"+field+": ") {
			t.Errorf("nothing about %s in:\n%v", field, err)
		}
	}
}

func TestHuntJSON(t *testing.T) {
	const text = `{"name":"oslo-winter","region":{"geohash":"u4xs"},"mask":"none","tiles_per_map":10,"tick":"250ms","lifetime":"1m30s",` +
		`"shards":48,"puzzles":{"lights":2,"tap":1},"reward":{"min":1,"max":2,"budget":3}}`
	var h Hunt
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		t.Fatal(err)
	}
	if err := h.Validate(); err != nil {
		t.Error(err)
	}
	if time.Duration(h.Tick) != 250*time.Millisecond || time.Duration(h.Lifetime) != 90*time.Second || h.Region.Geohash.String() != "u4xs" || h.Puzzles[Lights] != 2 {
		t.Errorf("decoded %+v", h)
	}
	back, err := json.Marshal(h)
	if err != nil || string(back) != text {
		t.Errorf("encoded %s, %v, want %s", back, err, text)
	}
	for _, bad := range []string{`{"tick":"1"}`, `{"tick":"1 second"}`, `{"tick":1}`, `{"puzzles":{"chess":1}}`, `{"region":{"geohash":"a"}}`, `{"shards":"24"}`, `{"shards":1.5}`, `{"reward":{"min":1e30}}`} {
		if err := json.Unmarshal([]byte(bad), new(Hunt)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestValidPlayerName(t *testing.T) {
	for _, ok := range []string{"a", "ana", "Åse Øvreås", "李小龍", "👩‍🚀 Ida", "x y", strings.Repeat("é", 40), "नमस्ते", "-", "7"} {
		if err := ValidPlayerName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{
		"", " ", " a", "a ", "a\n", "a\tb", "\x00", "a\x7f", "a\u0085b", "a\u202eb", "a\u2066b", "a\u2028b", "\u200b", "\u200d\u200d",
		"\u0301", "\xff", "a\xc3", strings.Repeat("é", 41), strings.Repeat("a", 1<<20), "\u00a0",
	} {
		if err := ValidPlayerName(bad); err == nil || len(err.Error()) > 400 {
			t.Errorf("%.40q: %.400v, want an error", bad, err)
		}
	}
}

// TestStates has all pairs: draft → live ⇄ paused → ended.
func TestStates(t *testing.T) {
	states := []State{Draft, Live, Paused, Ended, "", "bogus"}
	may := map[State][]State{
		Draft:  {Draft, Live, Ended},
		Live:   {Live, Paused, Ended},
		Paused: {Live, Paused, Ended},
		Ended:  {Ended},
	}
	for _, from := range states {
		for _, to := range states {
			if got, want := from.CanBecome(to), slices.Contains(may[from], to); got != want {
				t.Errorf("%q can become %q: %v, want %v", from, to, got, want)
			}
		}
	}
}
