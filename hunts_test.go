package cairn

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func created(name HuntID, at Instant) Change {
	h := goodHunt()
	h.Name = name
	return Change{Who: "op", When: at, Hunt: name, Create: &h}
}

// TestHunts folds the life of two hunts.
func TestHunts(t *testing.T) {
	var hs Hunts
	if hs.Get("a") != nil || len(hs.All()) != 0 {
		t.Error("the zero Hunts is not empty")
	}
	for i, c := range []Change{
		{Who: "up", When: 1, Key: "k1"},
		created("b", 2),
		created("a", 3),
		{Who: "eve", When: 4, Hunt: "a", State: Live},
		{Who: "eve", When: 5, Hunt: "a", Shards: 48},
		{Who: "eve", When: 5, Hunt: "a", TilesPerMap: 65_536},
		{Who: "eve", When: 6, Hunt: "a", State: Paused},
		{Who: "eve", When: 7, Knob: "sweep", Value: "50ms"},
		{Who: "eve", When: 8, Knob: "sweep", Value: "20ms"},
	} {
		if err := hs.Check(c); err != nil {
			t.Fatalf("change %d: %v", i, err)
		}
		hs.Apply(c)
	}
	all := hs.All()
	if len(all) != 2 || all[0].Name != "a" || all[1].Name != "b" {
		t.Fatalf("hunts are %v, want a, b", all)
	}
	if a := hs.Get("a"); a.State != Paused || a.Shards != 48 || a.TilesPerMap != 65_536 || a.Created != 3 || a.Changed != 6 || a.By != "eve" {
		t.Errorf("hunt a is %+v", a)
	}
	if b := hs.Get("b"); b.State != Draft || b.Shards != 24 || b.Created != 2 || b.Changed != 2 || b.By != "op" {
		t.Errorf("hunt b is %+v", b)
	}
	if hs.Knobs["sweep"] != "20ms" || hs.Key != "k1" {
		t.Errorf("knobs %v, key %q", hs.Knobs, hs.Key)
	}
}

// TestHuntsStatusIsImmutable: whoever was handed a status keeps what it had.
func TestHuntsStatusIsImmutable(t *testing.T) {
	var hs Hunts
	hs.Apply(created("a", 1))
	before := hs.Get("a")
	copied := hs.Clone()
	hs.Apply(Change{Who: "eve", When: 2, Hunt: "a", State: Live})
	if before.State != Draft || before.Changed != 1 {
		t.Errorf("a status that was handed out changed to %+v", before)
	}
	if copied.Get("a").State != Draft || hs.Get("a").State != Live {
		t.Errorf("clone has %s, original %s: want draft, live", copied.Get("a").State, hs.Get("a").State)
	}
	copied.Apply(created("b", 3))
	copied.Apply(Change{Knob: "x", Value: "1"})
	if hs.Get("b") != nil || len(hs.Knobs) != 0 {
		t.Error("folding the clone changed the original")
	}
	var empty Hunts
	empty = empty.Clone()
	empty.Apply(created("b", 3))
	if empty.Get("b") == nil {
		t.Error("the clone of nothing can't be folded")
	}
}

// TestHuntsCheck: what can't follow is refused, says why, and changes nothing
// when it is folded all the same.
func TestHuntsCheck(t *testing.T) {
	var hs Hunts
	hs.Apply(created("a", 1))
	hs.Apply(created("over", 1))
	hs.Apply(Change{Hunt: "over", State: Ended})

	misnamed, bad := created("b", 2), created("b", 2)
	misnamed.Hunt = "c"
	bad.Create.Shards = 0
	overwrites := created("a", 9)
	overwrites.Knob = "sweep"
	twice := Change{Hunt: "a", State: Live, Shards: 3}
	for _, tc := range []struct {
		name string
		c    Change
		is   error
		want string
	}{
		{"exists", created("a", 2), ErrHuntExists, "a: a hunt of that name exists"},
		{"ended names are taken", created("over", 2), ErrHuntExists, "over: "},
		{"misnamed", misnamed, nil, `name: is "b" in a change of "c"`},
		{"invalid", bad, nil, "shards: is 0"},
		{"unknown", Change{Hunt: "zz", State: Live}, ErrHuntUnknown, "zz: no such hunt"},
		{"no hunt", Change{State: Live}, ErrHuntUnknown, "no such hunt"},
		{"state", Change{Hunt: "a", State: Paused}, nil, `state: is "paused", which a hunt that is draft can't become`},
		{"bogus state", Change{Hunt: "a", State: "bogus"}, nil, `state: is "bogus"`},
		{"from the end", Change{Hunt: "over", State: Live}, nil, "a hunt that is ended can't become"},
		{"shards below", Change{Hunt: "a", Shards: -1}, nil, "shards: is -1; want 1 to 1024"},
		{"shards above", Change{Hunt: "a", Shards: 1025}, nil, "shards: is 1025"},
		{"tiles below", Change{Hunt: "a", TilesPerMap: -1}, nil, "tiles_per_map: is -1; want 1 to 65536"},
		{"tiles above", Change{Hunt: "a", TilesPerMap: 65_537}, nil, "tiles_per_map: is 65537"},
		{"tiles and shards", Change{Hunt: "a", TilesPerMap: 2, Shards: 2}, nil, "change: sets 2 of"},
		{"nothing", Change{Hunt: "a"}, nil, "change: sets 0 of"},
		{"a knob that overwrites a hunt", overwrites, nil, "change: sets 2 of"},
		{"two acts", twice, nil, "change: sets 2 of"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := picture(&hs)
			err := hs.Check(tc.c)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("Check: %v, want an error with %q", err, tc.want)
			}
			var fe *FieldError
			if tc.is != nil && !errors.Is(err, tc.is) || tc.is == nil && !errors.As(err, &fe) {
				t.Errorf("Check: %v is no %v", err, tc.is)
			}
			hs.Apply(tc.c)
			if after := picture(&hs); after != before {
				t.Errorf("a refused change was folded: %s, before %s", after, before)
			}
		})
	}
}

func picture(hs *Hunts) string {
	var s strings.Builder
	for _, h := range hs.All() {
		fmt.Fprintf(&s, "%+v ", *h)
	}
	return s.String() + fmt.Sprint(hs.Knobs, hs.Key)
}
