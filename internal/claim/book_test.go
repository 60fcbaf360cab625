package claim

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/puzzle"
)

const opens = cairn.Instant(1_800_000_000_000_000)

var testKey = [32]byte{1, 2, 3}

// testMap returns a map of n tiles, all of one kind, open for 30 s from opens.
func testMap(tick cairn.Tick, n, shards int, kind cairn.PuzzleKind) *cairn.Map {
	m := &cairn.Map{MapHeader: cairn.MapHeader{
		Hunt: "oslo", Tick: tick, Opens: opens, Closes: opens.Add(30 * time.Second), Shards: shards, Tiles: n,
	}}
	for i := range n {
		m.Tiles = append(m.Tiles, cairn.Tile{Cell: cairn.CellOfBits(uint64(i), 6), Reward: cairn.Micro(100 + i), Puzzle: kind})
	}
	return m
}

func layout(t testing.TB, m *cairn.Map) *Layout {
	t.Helper()
	l, err := NewLayout(m)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func try1(l *Layout, tile uint32, player string) *cairn.Attempt {
	return &cairn.Attempt{
		TileRef: cairn.TileRef{Hunt: l.Map.Hunt, Tick: l.Map.Tick, Tile: tile},
		Player:  cairn.PlayerID(player), Name: "name of " + player, ClaimID: "c-" + player,
	}
}

func TestBookDecides(t *testing.T) {
	tap := layout(t, testMap(1, 10, 1, cairn.Tap))
	cipher := layout(t, testMap(2, 10, 1, cairn.Cipher))
	keeper := puzzle.New(testKey)
	b := NewBook(0, keeper)
	var v cairn.Verdict
	decide := func(l *Layout, a *cairn.Attempt, at cairn.Instant, halted bool) (cairn.Outcome, uint64) {
		g := b.Decide(l, a, at, halted, &v)
		return v.Outcome, g
	}
	want := func(what string, gotO cairn.Outcome, gotG uint64, o cairn.Outcome, g uint64) {
		t.Helper()
		if gotO != o || gotG != g {
			t.Errorf("%s: got %v waiting for grant %d, want %v waiting for %d", what, gotO, gotG, o, g)
		}
	}
	check := func(what string, l *Layout, a *cairn.Attempt, at cairn.Instant, halted bool, o cairn.Outcome, g uint64) {
		t.Helper()
		gotO, gotG := decide(l, a, at, halted)
		want(what, gotO, gotG, o, g)
	}
	check("before it opens", tap, try1(tap, 0, "ana"), opens-1, false, cairn.Closed, 0)
	check("at its close", tap, try1(tap, 0, "ana"), tap.Map.Closes, false, cairn.Closed, 0)
	check("while halted", tap, try1(tap, 0, "ana"), opens, true, cairn.Closed, 0)
	check("at its opening", tap, try1(tap, 0, "ana"), opens, false, cairn.Won, 1)
	check("the winner again, not durable yet", tap, try1(tap, 0, "ana"), opens+5, false, cairn.Won, 1)
	check("another, not durable yet", tap, try1(tap, 0, "bo"), opens+7, false, cairn.Gone, 1)
	if v.Margin != 7*time.Microsecond || v.Claim.Player != "ana" || v.Claim.Name != "name of ana" {
		t.Errorf("gone: got %+v, want 7µs behind ana", v)
	}
	if claims, first := b.Take(10); len(claims) != 1 || first != 1 || claims[0].ID != "c-ana" {
		t.Fatalf("Take: got %+v from %d, want ana's claim as number 1", claims, first)
	}
	check("a second grant while the first is in flight", tap, try1(tap, 1, "bo"), opens+9, false, cairn.Won, 2)
	if got := b.Commit(eventlog.Offset{Epoch: 3, Seq: 15}); got != 1 {
		t.Errorf("Commit: got %d, want 1", got)
	}
	check("the winner again", tap, try1(tap, 0, "ana"), tap.Map.Closes.Add(time.Second), true, cairn.Won, 0)
	if want := (cairn.Place{Shard: 0, Epoch: 3, Seq: 15, Index: 0}); v.Place != want {
		t.Errorf("place: got %v, want %v", v.Place, want)
	}
	check("too late and gone", tap, try1(tap, 0, "bo"), tap.Map.Closes.Add(time.Second), false, cairn.Gone, 0)
	check("a clock that went back still judges by the newest", tap, try1(tap, 2, "bo"), opens-100, false, cairn.Won, 3)
	if v.Claim.At != opens+9 {
		t.Errorf("at: got %v, want %v: it never decreases in a shard", v.Claim.At, opens+9)
	}
	b.Withdraw()
	check("withdrawn, and free again", tap, try1(tap, 1, "cy"), opens+20, false, cairn.Won, 4)

	for left := Tries - 1; left >= 0; left-- {
		check("wrong", cipher, try1(cipher, 0, "ana"), opens+30, false, cairn.Wrong, 0)
		if v.AttemptsLeft != left {
			t.Errorf("attempts left: got %d, want %d", v.AttemptsLeft, left)
		}
	}
	right := func(player string) *cairn.Attempt {
		a := try1(cipher, 0, player)
		prompt, token := keeper.Prompt(cairn.Cipher, a.TileRef, a.Player, opens)
		answer, err := puzzle.Solve(cairn.Cipher, prompt)
		if err != nil {
			t.Fatal(err)
		}
		a.Answer, a.Token = answer, token
		return a
	}
	check("right, but after three wrong ones", cipher, right("ana"), opens+40, false, cairn.Wrong, 0)
	stolen := right("bo")
	stolen.Player = "cy"
	check("another's answer", cipher, stolen, opens+41, false, cairn.Wrong, 0)
	check("right", cipher, right("bo"), opens+42, false, cairn.Won, 5)
}

// TestBookAgainstModel drives a Book with random attempts, batches, failures
// and takeovers, and holds it against a map of who won what.
func TestBookAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const tiles, shards, shard = 40, 3, 1
		lays := []*Layout{mustLayout(testMap(1, tiles, shards, cairn.Tap)), mustLayout(testMap(2, tiles, shards, cairn.Tap))}
		type fact struct {
			cairn.Claim
			place cairn.Place
		}
		var log []fact // what is durable, in order
		holder := map[cairn.TileRef]fact{}
		b := NewBook(shard, puzzle.New(testKey))
		off := eventlog.Offset{Epoch: 1}
		now := opens

		t.Repeat(map[string]func(*rapid.T){
			"attempt": func(t *rapid.T) {
				l := rapid.SampledFrom(lays).Draw(t, "map")
				tile := uint32(rapid.IntRange(0, tiles-1).Draw(t, "tile"))
				if s, _ := l.Shard(tile); s != shard {
					return
				}
				a := try1(l, tile, fmt.Sprint("p", rapid.IntRange(0, 5).Draw(t, "player")))
				now = now.Add(time.Duration(rapid.IntRange(-50, 100).Draw(t, "µs")) * time.Microsecond)
				at := max(now, opens)
				var v cairn.Verdict
				g := b.Decide(l, a, at, false, &v)
				if g != 0 {
					if g <= b.committed {
						t.Fatalf("waits for grant %d, which is committed", g)
					}
					return
				}
				h, held := holder[a.TileRef]
				switch {
				case !held:
					t.Fatalf("final %v on a tile that nobody holds", v.Outcome)
				case h.Player == a.Player && v.Outcome != cairn.Won, h.Player != a.Player && v.Outcome != cairn.Gone:
					t.Fatalf("got %v for %s, want the holder %s", v.Outcome, a.Player, h.Player)
				case v.Place != h.place || v.Claim.Player != h.Player || v.Claim.At != h.At || v.Claim.Reward != h.Reward:
					t.Fatalf("got %+v at %v, want %+v", v.Claim, v.Place, h)
				}
			},
			"append": func(t *rapid.T) {
				claims, first := b.Take(rapid.IntRange(1, 5).Draw(t, "most"))
				if len(claims) == 0 {
					return
				}
				off.Seq++
				batch := append([]cairn.Claim(nil), claims...)
				if last := b.Commit(off); last != first+uint64(len(batch))-1 {
					t.Fatalf("committed up to %d, want %d", last, first+uint64(len(batch))-1)
				}
				for i, c := range batch {
					if h, held := holder[c.TileRef]; held {
						t.Fatalf("%v granted to %s and again to %s", c.TileRef, h.Player, c.Player)
					}
					if n := len(log); n > 0 && log[n-1].At > c.At {
						t.Fatalf("at went back from %v to %v", log[n-1].At, c.At)
					}
					f := fact{c, cairn.Place{Shard: shard, Epoch: off.Epoch, Seq: off.Seq, Index: i}}
					holder[c.TileRef] = f
					log = append(log, f)
				}
			},
			"withdraw": func(*rapid.T) { b.Withdraw() },
			"takeover": func(t *rapid.T) {
				b = NewBook(shard, puzzle.New(testKey))
				for _, f := range log {
					l := lays[f.Tick-1]
					if !b.Replay(l, &f.Claim, eventlog.Offset{Epoch: f.place.Epoch, Seq: f.place.Seq}, f.place.Index) {
						t.Fatalf("replay refused %v", f.TileRef)
					}
				}
				off = eventlog.Offset{Epoch: off.Epoch + 1}
			},
		})
	})
}

func mustLayout(m *cairn.Map) *Layout {
	l, err := NewLayout(m)
	if err != nil {
		panic(err)
	}
	return l
}

func TestBookForgets(t *testing.T) {
	l := layout(t, testMap(1, 10, 1, cairn.Tap))
	b := NewBook(0, puzzle.New(testKey))
	var v cairn.Verdict
	next := eventlog.Offset{Epoch: 1, Seq: 9}
	if got := b.From(next); got != next {
		t.Errorf("From of an empty book: got %v, want %v", got, next)
	}
	b.Decide(l, try1(l, 3, "ana"), opens, false, &v)
	b.Forget(l.Map.Closes.Add(2 * Memory))
	b.Take(1)
	b.Commit(eventlog.Offset{Epoch: 1, Seq: 4})
	if got, want := b.From(next), (eventlog.Offset{Epoch: 1, Seq: 4}); got != want {
		t.Errorf("From: got %v, want %v", got, want)
	}
	b.Forget(l.Map.Closes.Add(Memory))
	if b.Decide(l, try1(l, 3, "ana"), l.Map.Closes, false, &v); v.Outcome != cairn.Won {
		t.Errorf("at the end of its memory: got %v, want won", v.Outcome)
	}
	b.Forget(l.Map.Closes.Add(Memory + 1000))
	if len(b.sheets) != 0 || b.From(next) != next {
		t.Errorf("after its memory: got %d sheets and From %v, want none and %v", len(b.sheets), b.From(next), next)
	}
	// The clock was ahead and is set back: the map seems open once more.
	if b.Decide(l, try1(l, 3, "bo"), opens+1, false, &v); v.Outcome != cairn.Closed {
		t.Errorf("a forgotten map, by a clock that was set back: got %v, want closed", v.Outcome)
	}
}

// TestLosingAllocatesNothing holds the promise that a crowd on one tile costs
// the owner no memory.
func TestLosingAllocatesNothing(t *testing.T) {
	l := layout(t, testMap(1, 1, 1, cairn.Tap))
	b := NewBook(0, puzzle.New(testKey))
	var v cairn.Verdict
	b.Decide(l, try1(l, 0, "ana"), opens, false, &v)
	late := try1(l, 0, "bo")
	if n := testing.AllocsPerRun(1000, func() { b.Decide(l, late, opens+1, false, &v) }); n != 0 {
		t.Errorf("Decide: %v allocations, want 0", n)
	}
}

// BenchmarkBook measures attempts decided by one Book on one core, batches
// taken and committed included: on fresh tiles (each attempt wins), on one hot
// tile, and at one winner in ten.
func BenchmarkBook(b *testing.B) {
	const tiles = 65_536
	for _, per := range []int{1, 10, tiles} {
		b.Run(fmt.Sprintf("attempts-per-tile=%d", per), func(b *testing.B) {
			players := make([]*cairn.Attempt, 1024)
			l := mustLayout(testMap(1, tiles, 1, cairn.Tap))
			for i := range players {
				players[i] = try1(l, 0, fmt.Sprint("player-", i))
			}
			keeper := puzzle.New(testKey)
			var book *Book
			var v cairn.Verdict
			var off eventlog.Offset
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n%(tiles*per) == 0 {
					book = NewBook(0, keeper)
					off = eventlog.Offset{Epoch: 1}
				}
				a := players[n%len(players)]
				a.Tile = uint32(n / per % tiles)
				book.Decide(l, a, opens+1, false, &v)
				if n++; n%256 == 0 && book.Untaken() > 0 {
					book.Take(256)
					off.Seq++
					book.Commit(off)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "attempts/s")
		})
	}
}
