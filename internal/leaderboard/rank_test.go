package leaderboard

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sort"
	"testing"

	"github.com/tidwall/btree"
	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
)

// newRanks returns an empty board.
func newRanks(dense bool) *ranks { return &ranks{dense: dense} }

// check reports what is wrong with the order of r.
func (r *ranks) check() error {
	if r.tree != nil {
		if r.rows != nil || r.who != nil || r.slots != nil {
			return fmt.Errorf("there is a list beside the tree")
		}
		return r.tree.check()
	}
	n := len(r.rows)
	if n > looseMax || n > fewMax && r.dense {
		return fmt.Errorf("%d in the list", n)
	}
	if few := n <= fewMax; few && (len(r.who) != n || r.slots != nil) || !few && (r.who != nil || len(r.slots) != n) {
		return fmt.Errorf("%d in the list, %d and %d in what finds them", n, len(r.who), len(r.slots))
	}
	for i := range r.rows {
		if slot, ok := r.find(r.rows[i].player); !ok || int(slot) != i {
			return fmt.Errorf("number %d is found at %d, %v", i, slot, ok)
		}
	}
	return nil
}

// check reports what is wrong with the shape of the tree.
func (r *tree) check() error {
	seen := 0
	prev, prevLeaf := (*ranked)(nil), none
	rankedAt := func(lf *leaf, i uint32) *ranked { s := r.at(lf, int(i)); return &s }
	var leaf func(id, up uint32) (uint32, error)
	var walk func(id, up uint32, level int, lo, hi *ranked) (uint32, error)
	leaf = func(id, up uint32) (uint32, error) {
		lf := r.leaves.at(id)
		if lf.parent != up || lf.prev != prevLeaf {
			return 0, fmt.Errorf("leaf %d: parent %d, prev %d; want %d, %d", id, lf.parent, lf.prev, up, prevLeaf)
		}
		if prevLeaf == none && r.first != id || prevLeaf != none && r.leaves.at(prevLeaf).next != id {
			return 0, fmt.Errorf("leaf %d is not linked from the one before", id)
		}
		if lf.n == 0 && up != none {
			return 0, fmt.Errorf("leaf %d is empty", id)
		}
		prevLeaf = id
		for i, slot := range lf.slots[:lf.n] {
			s := rankedAt(lf, uint32(i))
			if at, ok := r.slotOf.get(s.player); s.leaf != id || !ok || at != slot {
				return 0, fmt.Errorf("leaf %d: standing %+v does not match it", id, s)
			}
			if prev != nil && prev.compare(s) >= 0 {
				return 0, fmt.Errorf("leaf %d: %+v before %+v", id, prev, s)
			}
			prev = s
			seen++
		}
		return lf.n, nil
	}
	walk = func(id, up uint32, level int, lo, hi *ranked) (uint32, error) {
		before := seen
		if level == 0 {
			n, err := leaf(id, up)
			if lf := r.leaves.at(id); err == nil && n > 0 {
				if lo != nil && rankedAt(lf, 0).compare(lo) < 0 || hi != nil && rankedAt(lf, n-1).compare(hi) >= 0 {
					err = fmt.Errorf("leaf %d is out of its bounds", id)
				}
			}
			return n, err
		}
		in := r.inners.at(id)
		if in.parent != up || int(in.level) != level || in.n == 0 || up == none && in.n < 2 {
			return 0, fmt.Errorf("inner %d: %d kids, level %d, parent %d; want level %d, parent %d", id, in.n, in.level, in.parent, level, up)
		}
		for i := range int(in.n) {
			klo, khi := lo, hi
			if i > 0 {
				klo = &ranked{sortKey{in.his[i], in.los[i]}, standing{last: in.places[i]}}
			}
			if i+1 < int(in.n) {
				khi = &ranked{sortKey{in.his[i+1], in.los[i+1]}, standing{last: in.places[i+1]}}
			}
			if got := r.pos(in.kids[i], in.level); got != i {
				return 0, fmt.Errorf("inner %d: kid %d says it is number %d", id, i, got)
			}
			n, err := walk(in.kids[i], id, level-1, klo, khi)
			if err != nil {
				return 0, err
			}
			if n != in.sums[i] {
				return 0, fmt.Errorf("inner %d: kid %d has %d, the sum says %d", id, i, n, in.sums[i])
			}
		}
		return uint32(seen - before), nil
	}
	if _, err := walk(r.root, none, r.height, nil, nil); err != nil {
		return err
	}
	if r.leaves.at(prevLeaf).next != none {
		return fmt.Errorf("the last leaf has a next")
	}
	if seen != r.players() {
		return fmt.Errorf("%d in the tree, want %d", seen, r.players())
	}
	// Memory is linear: a bound that shrinkLeaf gives.
	if live := len(r.leaves.of) - len(r.leaves.idle); live > 2+2*r.height+seen*5*2/nodeMax {
		return fmt.Errorf("%d leaves for %d players", live, seen)
	}
	return nil
}

// model is the naive board: a list, sorted anew for every question.
type model map[uint32]*ranked

func (m model) add(player uint32, reward cairn.Micro, at cairn.Instant, pl place) {
	s := m[player]
	if s == nil {
		m[player] = &ranked{sortKeyOf(reward, at), standing{last: pl, player: player, claims: 1}}
		return
	}
	score, when := s.key.score()+reward, s.key.at()
	if cmp.Or(cmp.Compare(at, when), pl.compare(&s.last)) > 0 {
		when, s.last = at, pl
	}
	s.key = sortKeyOf(score, when)
	s.claims++
}

func (m model) sorted() []*ranked {
	var out []*ranked
	for _, s := range m {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *ranked) int {
		return cmp.Or(-cmp.Compare(a.key.score(), b.key.score()), cmp.Compare(a.key.at(), b.key.at()), a.last.compare(&b.last))
	})
	return out
}

func same(a, b *ranked) bool {
	return a.key == b.key && a.last == b.last && a.player == b.player && a.claims == b.claims
}

func TestRanksMatchModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, m := newRanks(rapid.Bool().Draw(t, "dense")), model{}
		players := rapid.SampledFrom([]uint32{1, 3, 20, 70, 300, 3000, 6000}).Draw(t, "players")
		asked := rapid.IntRange(0, 4000).Draw(t, "asked") // when the board is asked for
		rewards := rapid.SampledFrom([]cairn.Micro{0, 1, 5, 100_000}).Draw(t, "rewards")
		ats := rapid.SampledFrom([]int64{0, 3, 1 << 40}).Draw(t, "ats")
		seed := rapid.Uint64().Draw(t, "seed")
		rnd := rand.New(rand.NewPCG(seed, 1))
		for i := range rapid.SampledFrom([]int{1, 200, 3000, 20_000}).Draw(t, "claims") {
			p := uint32(rnd.Uint64N(uint64(players)))
			if rnd.IntN(3) == 0 {
				p = uint32(i) % players // a wave through all: leaves run empty
			}
			reward := cairn.Micro(rnd.Int64N(int64(rewards) + 1))
			at := cairn.Instant(rnd.Int64N(ats + 1))
			pl := place{uint64(rnd.IntN(2)), uint64(i), uint16(rnd.IntN(3)), uint16(rnd.IntN(2))}
			if i == asked && r.loose() {
				r.order()
			}
			r.add(p, reward, at, pl)
			m.add(p, reward, at, pl)
		}
		if err := r.check(); err != nil {
			t.Fatal(err)
		}
		want := m.sorted()
		i := 0
		r.top(len(want)+1, func(s ranked) {
			if !same(&s, want[i]) {
				t.Fatalf("rank %d: got %+v, want %+v", i+1, s, want[i])
			}
			i++
		})
		if i != len(want) {
			t.Fatalf("top yields %d, want %d", i, len(want))
		}
		for i, s := range want {
			if got := r.rank(s.player); got != i+1 {
				t.Fatalf("rank of %d: got %d, want %d", s.player, got, i+1)
			}
		}
		for range 20 {
			i, n := rnd.IntN(len(want)), rnd.IntN(200)
			lo, hi := max(0, i-n), min(len(want), i+n+1)
			at := lo
			first := r.around(want[i].player, n, func(s ranked) {
				if !same(&s, want[at]) {
					t.Fatalf("around %d at rank %d: got %+v, want %+v", i+1, at+1, s, want[at])
				}
				at++
			})
			if first != lo+1 || at != hi {
				t.Fatalf("around %d: got ranks %d to %d, want %d to %d", i+1, first, at, lo+1, hi)
			}
		}
		if _, ok := r.get(players); ok || r.rank(players) != 0 || r.around(players, 3, nil) != 0 {
			t.Fatal("a player without a claim has a rank")
		}
	})
}

// A board keeps each player in one slot, whatever becomes of it: what a cut
// copies before and after are the same players.
func TestSlotsStay(t *testing.T) {
	for _, dense := range []bool{false, true} {
		r := newRanks(dense)
		slots := map[uint32]uint32{}
		hold := func(when string) {
			t.Helper()
			for player, want := range slots {
				if got, ok := r.find(player); !ok || got != want || r.slot(got).player != player {
					t.Fatalf("%s: player %d is in slot %d (%v), want %d", when, player, got, ok, want)
				}
			}
		}
		for i := range uint32(2 * fewMax) {
			player := i*7919%1000 + 5
			r.add(player, 1, cairn.Instant(i), place{seq: uint64(i)})
			slots[player], _ = r.find(player)
			hold(fmt.Sprintf("dense %v, after %d players", dense, i+1))
		}
		if !dense && !r.loose() {
			t.Error("a board that nobody asked for is in order")
		}
		r.order()
		hold("in order")
		for i := range uint32(looseMax) {
			r.add(2000+i, 1, cairn.Instant(1000+i), place{seq: uint64(1000 + i)})
		}
		hold("with many more")
		if err := r.check(); err != nil {
			t.Error(err)
		}
	}
}

// Crowds move: into the gaps higher up, so that what they leave runs empty, or,
// all with one score, one after the other to the end. The tree grows and shrinks
// at both ends, in the middle and in height, and stays the model's.
func TestRanksMatchModelWhenCrowdsMove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, m := newTree(true), model{}
		now, moves := cairn.Instant(0), uint64(0)
		add := func(player uint32, reward cairn.Micro) {
			now, moves = now+1, moves+1
			pl := place{seq: moves}
			r.add(player, reward, now, pl)
			m.add(player, reward, now, pl)
		}
		players := rapid.SampledFrom([]uint32{70, 500, 2200, 5000}).Draw(t, "players")
		step := rapid.SampledFrom([]cairn.Micro{0, 1000}).Draw(t, "step")
		for i := range players {
			add(i, cairn.Micro(i)*step) // each new leaf stays half full
		}
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		for range rapid.IntRange(1, 4).Draw(t, "crowds") {
			order := m.sorted()
			n := len(order)
			to := 1 + rnd.IntN(n)
			from := rnd.IntN(n)
			crowd := order[from : from+rnd.IntN(n-from)+1]
			if rapid.Bool().Draw(t, "backward") {
				slices.Reverse(crowd)
			}
			for _, s := range crowd {
				target := order[rnd.IntN(to)].key.score() + cairn.Micro(rnd.IntN(2))
				add(s.player, max(0, target-s.key.score()))
			}
			if err := r.check(); err != nil {
				t.Fatal(err)
			}
		}
		for i, s := range m.sorted() {
			if got := r.rank(s.player); got != i+1 {
				t.Fatalf("rank of %d: got %d, want %d", s.player, got, i+1)
			}
		}
	})
}

// A board on which everyone overtakes everyone must give back what it empties.
func TestRanksStayLinear(t *testing.T) {
	r := newRanks(true)
	const players = 5000
	for i := range 40 * players {
		r.add(uint32(i%players), cairn.Micro(1+i%7), cairn.Instant(i), place{seq: uint64(i)})
	}
	if err := r.check(); err != nil {
		t.Fatal(err)
	}
	if got, most := len(r.tree.leaves.of), 6*players/nodeMax; got > most {
		t.Errorf("%d leaves were ever made, want at most %d", got, most)
	}
}

func TestRanksDoNotAllocate(t *testing.T) {
	r, claims := benchRanks(10_000)
	i := 0
	if n := testing.AllocsPerRun(20_000, func() {
		c := claims[i%len(claims)]
		r.add(c.player, c.reward, cairn.Instant(1<<30+i), place{seq: uint64(1<<30 + i)})
		r.rank(c.player)
		i++
	}); n != 0 {
		t.Errorf("add and rank: %v allocations, want 0", n)
	}
}

type benchClaim struct {
	player uint32
	reward cairn.Micro
}

// fillBoard gives so many players some claims each, in an order that is the
// same for all boards, and returns more claims to come.
func fillBoard(board benchBoard, players, each int) []benchClaim {
	rnd := rand.New(rand.NewPCG(1, 2))
	claims := make([]benchClaim, 1<<20)
	for i := range claims {
		claims[i] = benchClaim{uint32(rnd.IntN(players)), cairn.Micro(100 + rnd.IntN(4901))}
	}
	for i := range each * players {
		board.add(uint32(i%players), claims[i%len(claims)].reward, cairn.Instant(i), place{seq: uint64(i)})
	}
	return claims
}

// benchRanks returns a board on which so many players have ten claims each, and
// more claims to come.
func benchRanks(players int) (*ranks, []benchClaim) {
	r := newRanks(true)
	return r, fillBoard(r, players, 10)
}

// A benchBoard is what the benchmarks compare: ours, and a peer's.
type benchBoard interface {
	add(player uint32, reward cairn.Micro, at cairn.Instant, pl place) (newest bool)
	rank(player uint32) int
}

// A peerBoard is github.com/tidwall/btree, which counts too, with the same key
// and the same standings, and the hints that it offers.
type peerBoard struct {
	tree *btree.BTreeG[*ranked]
	of   []ranked // by player
	hint btree.PathHint
}

func newPeerBoard(players int) *peerBoard {
	less := func(a, b *ranked) bool { return a.compare(b) < 0 }
	return &peerBoard{tree: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true}), of: make([]ranked, players)}
}

func (p *peerBoard) add(player uint32, reward cairn.Micro, at cairn.Instant, pl place) (newest bool) {
	s := &p.of[player]
	if s.claims == 0 {
		*s = ranked{sortKeyOf(reward, at), standing{last: pl, player: player}}
		newest = true
	} else {
		p.tree.DeleteHint(s, &p.hint)
		s.key, newest = s.key.plus(reward, at, &s.last, pl)
	}
	s.claims++
	p.tree.SetHint(s, &p.hint)
	return newest
}

// rank finds the player by a binary search over GetAt: the tree does not tell
// the rank of a key.
func (p *peerBoard) rank(player uint32) int {
	s := &p.of[player]
	return 1 + sort.Search(p.tree.Len(), func(i int) bool {
		x, _ := p.tree.GetAt(i)
		return x.compare(s) >= 0
	})
}

// The peer ranks as the board does, so that the two may be compared.
func TestPeerRanksAlike(t *testing.T) {
	const players = 500
	r, peer := newRanks(true), newPeerBoard(players)
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range 20 * players {
		player, reward, at := rnd.Uint32N(players), cairn.Micro(rnd.IntN(5)), cairn.Instant(rnd.IntN(i+1))
		pl := place{seq: uint64(i)}
		r.add(player, reward, at, pl)
		peer.add(player, reward, at, pl)
	}
	for player := range uint32(players) {
		if got, want := peer.rank(player), r.rank(player); got != want {
			t.Fatalf("player %d: the peer's rank is %d, want %d", player, got, want)
		}
	}
}

// benchBoards runs a benchmark for ours and the peer, next to each other, on
// boards on which each player has four claims. Rewards are as a hunt's are.
func benchBoards(b *testing.B, run func(b *testing.B, board benchBoard, claims []benchClaim)) {
	for _, players := range []int{1000, 131_072, 1_048_576} {
		for _, impl := range []string{"cairn", "btree"} {
			b.Run(fmt.Sprintf("players=%d/impl=%s", players, impl), func(b *testing.B) {
				board := benchBoard(newRanks(true))
				if impl == "btree" {
					board = newPeerBoard(players)
				}
				claims := fillBoard(board, players, 4)
				runtime.GC() // what filled it is not the benchmark's to sweep
				b.ReportAllocs()
				run(b, board, claims)
			})
		}
	}
}

// An update is one claim of a player who is on the board.
func BenchmarkUpdate(b *testing.B) {
	benchBoards(b, func(b *testing.B, board benchBoard, claims []benchClaim) {
		for i := 0; b.Loop(); i++ {
			c := &claims[i%len(claims)]
			board.add(c.player, c.reward, cairn.Instant(1<<30+i), place{seq: uint64(1<<30 + i)})
		}
	})
}

// A rank is the answer to "where am I".
func BenchmarkRank(b *testing.B) {
	benchBoards(b, func(b *testing.B, board benchBoard, claims []benchClaim) {
		for i := 0; b.Loop(); i++ {
			if board.rank(claims[i%len(claims)].player) == 0 {
				b.Fatal("a player without a rank")
			}
		}
	})
}

func BenchmarkRanksTop100(b *testing.B) {
	r, _ := benchRanks(131_072)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		r.top(100, func(ranked) { n++ })
		if n != 100 {
			b.Fatal(n)
		}
	}
}
