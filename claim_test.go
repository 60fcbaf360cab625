package cairn

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPlaceText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Place{
			Shard: rapid.IntRange(0, ShardsMax-1).Draw(t, "shard"),
			Epoch: rapid.Uint64().Draw(t, "epoch"),
			Seq:   rapid.Uint64().Draw(t, "seq"),
			Index: rapid.IntRange(0, math.MaxInt32).Draw(t, "index"),
		}
		if back, err := ParsePlace(p.String()); err != nil || back != p {
			t.Fatalf("ParsePlace(%q) = %+v, %v, want %+v", p, back, err, p)
		}
	})
	if got := (Place{Shard: 7, Epoch: 3, Seq: 15, Index: 4}).String(); got != "7/3-15/4" {
		t.Errorf("place is written %q, want 7/3-15/4", got)
	}
}

func TestParsePlaceRefuses(t *testing.T) {
	for _, in := range []string{
		"", "7", "7/3", "7/3-15", "7/3-15/", "7/3-15/4 ", " 7/3-15/4", "7/3-15/4/5", "07/3-15/4", "+7/3-15/4",
		"-7/3-15/4", "7/-3-15/4", "7/3--15/4", "7/3-15/-4", "7/3-18446744073709551616/4", "0x7/3-15/4", "7/3-15/4\n",
		"99999999999999999999/3-15/4", strings.Repeat("7", 1<<16),
	} {
		if p, err := ParsePlace(in); err == nil || len(err.Error()) > 150 || p != (Place{}) {
			t.Errorf("ParsePlace(%.30q) = %+v, %.200v, want an error", in, p, err)
		}
	}
}

func TestOutcomes(t *testing.T) {
	names := map[Outcome]string{
		0: "none", Won: "won", Gone: "gone", Wrong: "wrong", Closed: "closed",
		UnknownTile: "unknown_tile", Throttled: "throttled", Pending: "pending", 8: "outcome 8", 255: "outcome 255",
	}
	for o, want := range names {
		if got := o.String(); got != want {
			t.Errorf("outcome %d is %q, want %q", o, got, want)
		}
		if j, err := json.Marshal(o); err != nil || string(j) != `"`+want+`"` {
			t.Errorf("outcome %d is %s in JSON, %v, want %q", o, j, err, want)
		}
	}
}

func TestInstant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64Range(-62_167_219_200_000, 253_402_300_799_999).Draw(t, "ms") // the years 0 to 9999
		i := Instant(ms * 1000)
		b, err := i.MarshalText()
		if err != nil || string(b) != i.String() {
			t.Fatalf("text %q, %v, want %q", b, err, i)
		}
		var back Instant
		if err := back.UnmarshalText(b); err != nil || back != i {
			t.Fatalf("back from %q: %d, %v, want %d", b, back, err, i)
		}
		if InstantOf(i.Time()) != i {
			t.Fatalf("InstantOf(%v) = %d, want %d", i.Time(), InstantOf(i.Time()), i)
		}
	})
	i := InstantOf(time.Date(2026, 1, 2, 15, 4, 5, 678_999_999, time.FixedZone("", 3600)))
	if want := "2026-01-02T14:04:05.678Z"; i.String() != want {
		t.Errorf("instant is %s, want %s", i, want)
	}
	if j := i.Add(1500 * time.Millisecond); j.Sub(i) != 1500*time.Millisecond || i.Sub(j) != -1500*time.Millisecond {
		t.Errorf("%s less %s is %v", j, i, j.Sub(i))
	}
	for _, bad := range []string{"", "now", "2026-01-02", "2026-01-02T15:04:05", "2026-13-02T15:04:05Z", "0000-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"} {
		before := i
		if err := i.UnmarshalText([]byte(bad)); err == nil || !strings.Contains(err.Error(), "want RFC 3339") || i != before {
			t.Errorf("UnmarshalText(%q): %v", bad, err)
		}
	}
}

func TestDigestText(t *testing.T) {
	d := Digest{0: 0xab, 31: 0x01}
	want := "ab" + strings.Repeat("00", 30) + "01"
	if j, err := json.Marshal(d); err != nil || string(j) != `"`+want+`"` || d.String() != want {
		t.Errorf("digest is %s, %s, %v, want %s", d, j, err, want)
	}
}

func TestPuzzleKinds(t *testing.T) {
	for i, name := range []string{"tap", "cipher", "lights", "echo", "odd"} {
		k := PuzzleKinds()[i]
		var back PuzzleKind
		if err := back.UnmarshalText([]byte(name)); err != nil || back != k || k.String() != name || !k.Valid() || int(k) != i+1 {
			t.Errorf("kind %d is %q, and %q is kind %d, %v", k, k, name, back, err)
		}
	}
	for _, bad := range []string{"", "Tap", "tap ", "puzzle kind 0", "1", strings.Repeat("x", 1<<16)} {
		k := Echo
		if err := k.UnmarshalText([]byte(bad)); err == nil || len(err.Error()) > 100 || k != Echo {
			t.Errorf("UnmarshalText(%.20q) = %v, %.150v", bad, k, err)
		}
	}
	for _, k := range []PuzzleKind{0, 6, 255} {
		if k.Valid() || !strings.HasPrefix(k.String(), "puzzle kind ") {
			t.Errorf("kind %d is valid, or named %q", uint8(k), k)
		}
	}
	var weights map[PuzzleKind]int
	if err := json.Unmarshal([]byte(`{"tap":1,"odd":2}`), &weights); err != nil || weights[Tap] != 1 || weights[Odd] != 2 {
		t.Errorf("weights from JSON: %v, %v", weights, err)
	}
	if j, err := json.Marshal(weights); err != nil || string(j) != `{"odd":2,"tap":1}` {
		t.Errorf("weights to JSON: %s, %v", j, err)
	}
}
