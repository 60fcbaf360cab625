package history

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/veltrix/cairn"
)

var (
	here  = cairn.Place{Shard: 3, Epoch: 2, Seq: 7}
	there = cairn.Place{Shard: 3, Epoch: 3, Seq: 1}
)

func won(p Player, call, ret int64, at cairn.Place) Op {
	return Op{Call: call, Return: ret, Told: Won, Player: p, Place: at}
}

func gone(p Player, call, ret int64, to Player) Op {
	return Op{Call: call, Return: ret, Told: Gone, Player: p, Holder: to}
}

func told(p Player, call, ret int64, what Told) Op {
	return Op{Call: call, Return: ret, Told: what, Player: p}
}

func TestPossible(t *testing.T) {
	cases := []struct {
		name string
		ops  []Op
		want bool
	}{
		{"one wins", []Op{won(1, 0, 5, here)}, true},
		{"one wins and another does not", []Op{won(1, 0, 5, here), gone(2, 1, 4, 1)}, true},
		{"the holder asks again", []Op{won(1, 0, 5, here), won(1, 6, 9, here)}, true},
		{"the holder asks again and stands elsewhere", []Op{won(1, 0, 5, here), won(1, 6, 9, there)}, false},
		{"two win", []Op{won(1, 0, 5, here), won(2, 1, 6, there)}, false},
		{"two win by two owners", []Op{won(1, 0, 5, here), won(2, 100, 106, there)}, false},
		{"gone before anybody asked", []Op{gone(2, 0, 3, 1), won(1, 4, 5, here)}, false},
		{"gone to oneself", []Op{won(1, 0, 5, here), gone(1, 6, 7, 1)}, false},
		{"gone to one who did not win", []Op{won(1, 0, 5, here), gone(2, 6, 7, 3)}, false},
		{"gone to one who was told nothing", []Op{told(1, 0, 5, Nothing), gone(2, 6, 7, 1)}, true},
		{"what nothing was told of is done later", []Op{told(1, 0, 5, Nothing), won(2, 6, 7, here)}, true},
		{"done after all, and told later", []Op{told(1, 0, 5, Nothing), gone(2, 6, 7, 1), won(1, 8, 9, here)}, true},
		{"done after all, then another's", []Op{told(1, 0, 5, Nothing), gone(2, 6, 7, 1), won(2, 8, 9, here)}, false},
		{"nothing told of what another asked for later", []Op{gone(2, 0, 3, 1), told(1, 4, 5, Nothing)}, false},
		{"the holder hears closed", []Op{won(1, 0, 5, here), told(1, 6, 7, Closed)}, false},
		{"a loser hears closed", []Op{won(1, 0, 5, here), told(2, 6, 7, Closed)}, false},
		{"closed, and nobody's", []Op{told(1, 0, 5, Nothing), told(1, 6, 7, Closed), told(2, 8, 9, Closed)}, true},
		{"the holder hears that there is no such tile", []Op{won(1, 0, 5, here), told(1, 6, 7, Unknown)}, false},
		{"unknown at first", []Op{told(1, 0, 5, Unknown), won(1, 6, 7, here)}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := possible(c.ops); got != c.want {
				t.Errorf("possible is %v, want %v, for %v", got, c.want, c.ops)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	l := NewLog()
	on := func(tile uint32, o Op) Op { o.Tile = tile; return o }
	l.Add(100, on(1, won(1, 0, 5, here)), on(1, won(1, 10, 12, here)), on(1, told(1, 20, 22, Nothing)), on(1, gone(2, 1, 3, 1)))
	l.Add(100, on(2, won(1, 0, 5, here)), on(2, won(1, 10, 12, there)))
	l.Add(100, on(3, won(1, 0, 5, here)), on(3, won(2, 10, 12, there)))
	l.Add(100, on(4, told(1, 0, 5, Nothing)))
	l.Add(101, on(1, won(2, 0, 5, here)))
	l.Check(101)
	got := l.Findings()
	if len(got.Samples) != 2 {
		t.Errorf("%d samples, want those of tiles 2 and 3: %q", len(got.Samples), got.Samples)
	}
	got.Samples = nil
	want := Findings{
		Ops: 9, Undecided: 2, Tiles: 4, Contested: 2, Impossible: 2, TwoWinners: 1, Won: 3,
		Asked: 3, Same: 1, Other: 1, Untold: 1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
	if !got.Broken() {
		t.Error("two winners are not found to be broken")
	}
	held := map[cairn.Tick][]Held{100: {{1, 1, here, 5}, {2, 1, here, 5}, {3, 1, here, 5}}}
	if d := cmp.Diff(held, l.Held()); d != "" {
		t.Errorf("held (-want +got):\n%s", d)
	}
}

// BenchmarkCheck checks the history of a map: 2,500 tiles, two players each,
// and the holder's retry.
func BenchmarkCheck(b *testing.B) {
	var ops []Op
	for i := range uint32(2500) {
		for _, o := range []Op{won(1, 0, 5, here), gone(2, 1, 4, 1), won(1, 10, 12, here)} {
			o.Tile = i
			ops = append(ops, o)
		}
	}
	for b.Loop() {
		check(1, ops)
	}
}
