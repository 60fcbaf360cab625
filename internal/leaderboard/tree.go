package leaderboard

import (
	"cmp"
	"math"
	"math/bits"

	"github.com/veltrix/cairn"
)

// A sortKey orders players: the higher score first, then the earlier at. Both
// words ascend, so that two keys compare as one 128-bit number.
type sortKey struct{ hi, lo uint64 }

const signBit = 1 << 63

func sortKeyOf(score cairn.Micro, at cairn.Instant) sortKey {
	return sortKey{^(uint64(score) ^ signBit), uint64(at) ^ signBit}
}

func (k sortKey) score() cairn.Micro { return cairn.Micro(^k.hi ^ signBit) }
func (k sortKey) at() cairn.Instant  { return cairn.Instant(k.lo ^ signBit) }

// plus returns the key of a player whose was k, after one more claim. If the
// claim is its newest, by (at, place), then that becomes last.
func (k sortKey) plus(reward cairn.Micro, at cairn.Instant, last *place, pl place) (_ sortKey, newest bool) {
	k.hi -= uint64(reward)
	if now := uint64(at) ^ signBit; now > k.lo || now == k.lo && pl.compare(last) > 0 {
		k.lo, *last, newest = now, pl, true
	}
	return k, newest
}

func (k *sortKey) compare(q *sortKey) int {
	return cmp.Or(cmp.Compare(k.hi, q.hi), cmp.Compare(k.lo, q.lo))
}

// A place is a cairn.Place without waste: where a claim stands in the logs. It
// breaks the tie of two players with one score and one at. There are at most
// cairn.ShardsMax shards, and fewer claims in a record than it has bytes.
type place struct {
	epoch, seq   uint64
	shard, index uint16
}

func (p *place) compare(q *place) int {
	return cmp.Or(cmp.Compare(p.shard, q.shard), cmp.Compare(p.epoch, q.epoch),
		cmp.Compare(p.seq, q.seq), cmp.Compare(p.index, q.index))
}

// A standing is what a board keeps of a player beside the hi of its key, which
// is in the player's leaf alone: 48 bytes.
type standing struct {
	last   place  // of the player's largest (at, place) on this board
	lo     uint64 // of its key; a tree's own
	player uint32 // its number in the hunt
	claims uint32
	leaf   uint32 // which leaf holds it
}

// A ranked is a player on a board.
type ranked struct {
	key sortKey // its at is that of last
	standing
}

func (s *ranked) compare(t *ranked) int {
	return cmp.Or(s.key.compare(&t.key), s.last.compare(&t.last))
}

const (
	nodeMax = 64 // players in a leaf, kids of an inner node
	none    = ^uint32(0)
)

// A leaf holds neighbours in rank order. It has no pointer, so that the
// garbage collector never looks into the tree. The lo of a key is looked at on a
// tie of scores alone, and so is not here: a search touches half as much memory.
type leaf struct {
	n          uint32
	parent     uint32          // inner node, or none for the root
	pos        uint32          // among its kids
	prev, next uint32          // leaves, or none
	slots      [nodeMax]uint32 // of the standings
	his        [nodeMax]uint64 // of their keys
}

// An inner node holds the lower bounds of its kids and how many players each
// has. A bound is one that was once right: a kid's first key is ≥ it, and the
// key before it is <. The first is the node's own, and find never needs it.
type inner struct {
	n      uint32
	level  uint32 // 1 if the kids are leaves
	parent uint32
	pos    uint32
	kids   [nodeMax]uint32 // leaves on level 1, inner nodes above
	sums   [nodeMax]uint32 // players below
	his    [nodeMax]uint64 // of the bounds' keys
	los    [nodeMax]uint64 // and, looked at on a tie alone, the rest of them
	places [nodeMax]place
}

// A tree is the order of many players: a counted B+-tree. Wide nodes hold the
// keys side by side, every node knows its parent and where it is among the kids
// of that, and every player its leaf, so that
//
//   - a player's rank is its position in its leaf plus what stands to the left
//     on the way up: no key is compared;
//   - an update takes a player out of its leaf without a search, and searches
//     once to put it back, branch-free within a node;
//   - memory is linear in players (≤ 4n/nodeMax leaves), whatever the scores.
//
// Nodes and standings are never moved nor handed back, so that growth never
// copies the whole and the steady state does not allocate. A player's slot is
// its own for good.
type tree struct {
	slotOf    slotIndex
	standings chunks[standing]
	leaves    nodes[leaf]
	inners    nodes[inner]
	root      uint32 // a leaf if height is 0
	height    int
	first     uint32 // the leaf of rank 1
}

// newTree returns an empty tree. dense says that most players of the hunt
// will be in it: then finding one is a look into a table.
func newTree(dense bool) *tree {
	r := &tree{}
	if !dense {
		r.slotOf.sparse = map[uint32]uint32{}
	}
	r.root = r.leaves.alloc()
	r.first = r.root
	*r.leaves.at(r.root) = leaf{parent: none, prev: none, next: none}
	return r
}

// players returns how many have a rank.
func (r *tree) players() int { return int(r.standings.n) }

// add folds one claim. It reports whether it is the newest of its player here,
// by (at, place). The order in which claims are added does not matter.
func (r *tree) add(player uint32, reward cairn.Micro, at cairn.Instant, pl place) (newest bool) {
	slot, known := r.slotFor(player)
	if !known {
		r.put(sortKeyOf(reward, at), standing{last: pl, player: player, claims: 1})
		return true
	}
	s := r.standings.at(slot)
	s.claims++
	lf := r.leaves.at(s.leaf)
	i := lf.find(slot)
	was := sortKey{lf.his[i], s.lo}
	key, newest := was.plus(reward, at, &s.last, pl)
	if newest || key != was {
		s.lo = key.lo
		r.move(slot, s, lf, i, key)
	}
	return newest
}

// slotFor returns the slot of a player. On the hunt's own board, which players
// come to as they are numbered, it is the number: then no table is looked at.
func (r *tree) slotFor(player uint32) (slot uint32, ok bool) {
	if player < r.standings.n && r.standings.at(player).player == player {
		return player, true
	}
	return r.slotOf.get(player)
}

// put adds a player that is not in the tree.
func (r *tree) put(key sortKey, s standing) {
	slot := r.standings.alloc()
	r.slotOf.set(s.player, slot)
	at := r.standings.at(slot)
	*at = s
	at.lo = key.lo
	r.insert(slot, at, key)
}

// move takes a player, number i of lf, to where its new key belongs. Its
// standing has the new place already.
func (r *tree) move(slot uint32, s *standing, lf *leaf, i int, key sortKey) {
	lf.take(i)
	// Between two others of its own leaf? Then no count changes.
	if lf.n > 1 && lf.his[0] < key.hi && key.hi < lf.his[lf.n-1] {
		lf.give(r.lower(lf, key, &s.last), key.hi, slot)
		return
	}
	r.climb(lf, -1)
	if lf.n < nodeMax/4 && lf.parent != none {
		r.shrinkLeaf(s.leaf)
	}
	r.insert(slot, s, key)
}

// insert puts a standing that is in no leaf into the one it belongs to.
func (r *tree) insert(slot uint32, s *standing, key sortKey) {
	id := r.root
	for range r.height {
		in := r.inners.at(id)
		i := in.find(key, &s.last)
		in.sums[i]++
		id = in.kids[i]
	}
	lf := r.leaves.at(id)
	if lf.n == nodeMax {
		r.climb(lf, -1)
		right := r.splitLeaf(id)
		if b := r.leaves.at(right); r.lower(b, key, &s.last) > 0 {
			id, lf = right, b
		}
		r.climb(lf, +1)
	}
	s.leaf = id
	lf.give(r.lower(lf, key, &s.last), key.hi, slot)
}

// rank returns a player's rank, from 1, or 0 if it is not on the board.
func (r *tree) rank(player uint32) int {
	slot, ok := r.slotFor(player)
	if !ok {
		return 0
	}
	id := r.standings.at(slot).leaf
	lf := r.leaves.at(id)
	rank := uint32(lf.find(slot)) + 1
	for up, pos := lf.parent, lf.pos; up != none; {
		in := r.inners.at(up)
		for _, n := range in.sums[:pos] {
			rank += n
		}
		up, pos = in.parent, in.pos
	}
	return int(rank)
}

// slot returns the player of a slot as it stands.
func (r *tree) slot(slot uint32) ranked {
	s := r.standings.at(slot)
	lf := r.leaves.at(s.leaf)
	return ranked{sortKey{lf.his[lf.find(slot)], s.lo}, *s}
}

// at returns number i of a leaf.
func (r *tree) at(lf *leaf, i int) ranked {
	s := r.standings.at(lf.slots[i])
	return ranked{sortKey{lf.his[i], s.lo}, *s}
}

// top calls yield for the first n players in rank order.
func (r *tree) top(n int, yield func(ranked)) {
	for id := r.first; id != none && n > 0; {
		lf := r.leaves.at(id)
		for i := range min(n, int(lf.n)) {
			yield(r.at(lf, i))
		}
		n -= int(lf.n)
		id = lf.next
	}
}

// around calls yield for a player and up to n on each side, in rank order, and
// returns the rank of the first, or 0 if the player is not on the board.
func (r *tree) around(player uint32, n int, yield func(ranked)) int {
	slot, ok := r.slotFor(player)
	if !ok {
		return 0
	}
	rank := r.rank(player)
	above := min(n, rank-1)
	lf := r.leaves.at(r.standings.at(slot).leaf)
	i := lf.find(slot)
	back := above
	for back > i {
		back -= i + 1
		lf = r.leaves.at(lf.prev)
		i = int(lf.n) - 1
	}
	i -= back
	for range above + 1 + n {
		if i == int(lf.n) {
			if lf.next == none {
				break
			}
			lf, i = r.leaves.at(lf.next), 0
		}
		yield(r.at(lf, i))
		i++
	}
	return rank - above
}

// lower returns how many of lf rank before (key, pl), which is not in it.
func (r *tree) lower(lf *leaf, key sortKey, pl *place) int {
	n := int(lf.n)
	i := lowerBound(&lf.his, n, key.hi)
	if i == n || lf.his[i] != key.hi {
		return i
	}
	for j := tied(&lf.his, n, key.hi); i < j; {
		mid := int(uint(i+j) / 2)
		s := r.standings.at(lf.slots[mid])
		if s.lo < key.lo || s.lo == key.lo && s.last.compare(pl) < 0 {
			i = mid + 1
		} else {
			j = mid
		}
	}
	return i
}

// lowerBound returns how many of the first n words are < q. Its loop has no
// branch that depends on the words: a processor can't predict those.
func lowerBound(words *[nodeMax]uint64, n int, q uint64) int {
	base := 0
	for n > 1 {
		half := n >> 1
		_, less := bits.Sub64(words[(base+half-1)&(nodeMax-1)], q, 0)
		base += half & -int(less)
		n -= half
	}
	if n == 1 {
		_, less := bits.Sub64(words[base&(nodeMax-1)], q, 0)
		base += int(less)
	}
	return base
}

// tied returns how many of the first n words are <= q.
func tied(words *[nodeMax]uint64, n int, q uint64) int {
	if q == math.MaxUint64 {
		return n
	}
	return lowerBound(words, n, q+1)
}
