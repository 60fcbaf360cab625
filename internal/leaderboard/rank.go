package leaderboard

import (
	"slices"

	"github.com/veltrix/cairn"
)

const (
	// fewMax is how many players a board has while it is no more than a list.
	// Most regional boards have few.
	fewMax = 32

	// looseMax is how many a regional board has before it is kept in order,
	// asked for or not: putting as many in order takes some milliseconds, for
	// which no claim is folded.
	looseMax = 4096
)

// ranks is the order of the players of one board. The order in which claims
// are added does not matter. It is a plain value: whoever uses it guards it.
//
// A claim changes several boards, and nobody looks at most of them. So the
// players stand in no order, as they came, until the board is asked for (order)
// or has many; then it is a tree, for good. A player's slot is its own in both.
type ranks struct {
	rows  []ranked          // by slot; nil once there is a tree
	who   []uint32          // the players of rows, while there are at most fewMax: a search that touches little
	slots map[uint32]uint32 // and then, from player to slot
	tree  *tree
	dense bool // most players of the hunt will be here, and it is looked at all the time
}

// players returns how many have a rank.
func (r *ranks) players() int {
	if r.tree != nil {
		return r.tree.players()
	}
	return len(r.rows)
}

// find returns the slot of a player.
func (r *ranks) find(player uint32) (slot uint32, ok bool) {
	switch {
	case r.tree != nil:
		return r.tree.slotFor(player)
	case r.slots != nil:
		slot, ok = r.slots[player]
		return slot, ok
	}
	i := slices.Index(r.who, player)
	return uint32(i), i >= 0
}

// slot returns the player of a slot as it stands.
func (r *ranks) slot(slot uint32) ranked {
	if r.tree != nil {
		return r.tree.slot(slot)
	}
	return r.rows[slot]
}

// add folds one claim. It reports whether it is the newest of its player here,
// by (at, place).
func (r *ranks) add(player uint32, reward cairn.Micro, at cairn.Instant, pl place) (newest bool) {
	if r.tree != nil {
		return r.tree.add(player, reward, at, pl)
	}
	i, ok := r.find(player)
	if !ok {
		r.put(sortKeyOf(reward, at), standing{last: pl, player: player, claims: 1})
		return true
	}
	s := &r.rows[i]
	s.claims++
	s.key, newest = s.key.plus(reward, at, &s.last, pl)
	return newest
}

// put adds a player that is not on the board.
func (r *ranks) put(key sortKey, s standing) {
	if n := len(r.rows); n == looseMax || n == fewMax && r.dense {
		r.order()
	}
	if r.tree != nil {
		r.tree.put(key, s)
		return
	}
	slot := uint32(len(r.rows))
	r.rows = append(r.rows, ranked{key, s})
	if slot < fewMax {
		r.who = append(r.who, s.player)
		return
	}
	if r.slots == nil {
		r.slots = make(map[uint32]uint32, 2*fewMax)
		for i, player := range r.who {
			r.slots[player] = uint32(i)
		}
		r.who = nil
	}
	r.slots[s.player] = slot
}

// loose reports whether to answer questions about r would take a sort of more
// than a few.
func (r *ranks) loose() bool { return len(r.rows) > fewMax }

// order has r kept in order from now on.
func (r *ranks) order() {
	if r.tree != nil {
		return
	}
	r.tree = newTree(r.dense)
	if r.slots != nil && !r.dense {
		r.tree.slotOf.sparse = r.slots // which it fills with what is there
	}
	for i := range r.rows {
		r.tree.put(r.rows[i].key, r.rows[i].standing)
	}
	r.rows, r.who, r.slots = nil, nil, nil
}

// has reports whether a player is on the board.
func (r *ranks) has(player uint32) bool {
	_, ok := r.find(player)
	return ok
}

// rank returns a player's rank, from 1, or 0 if it is not on the board.
func (r *ranks) rank(player uint32) int {
	if r.tree != nil {
		return r.tree.rank(player)
	}
	i, ok := r.find(player)
	if !ok {
		return 0
	}
	rank := 1
	for j := range r.rows {
		if r.rows[j].compare(&r.rows[i]) < 0 {
			rank++
		}
	}
	return rank
}

// get returns a player as it stands.
func (r *ranks) get(player uint32) (ranked, bool) {
	slot, ok := r.find(player)
	if !ok {
		return ranked{}, false
	}
	return r.slot(slot), true
}

// inOrder appends the rows, which are in no tree, in rank order.
func (r *ranks) inOrder(to []ranked) []ranked {
	to = append(to, r.rows...)
	slices.SortFunc(to, compareRanked)
	return to
}

func compareRanked(a, b ranked) int { return a.compare(&b) }

// top calls yield for the first n players in rank order.
func (r *ranks) top(n int, yield func(ranked)) {
	if r.tree != nil {
		r.tree.top(n, yield)
		return
	}
	var few [fewMax]ranked
	for _, s := range r.inOrder(few[:0])[:min(max(n, 0), len(r.rows))] {
		yield(s)
	}
}

// around calls yield for a player and up to n on each side, in rank order, and
// returns the rank of the first, or 0 if the player is not on the board.
func (r *ranks) around(player uint32, n int, yield func(ranked)) int {
	if r.tree != nil {
		return r.tree.around(player, n, yield)
	}
	rank := r.rank(player)
	if rank == 0 {
		return 0
	}
	var few [fewMax]ranked
	first := max(0, rank-1-n)
	for _, s := range r.inOrder(few[:0])[first:min(len(r.rows), rank+n)] {
		yield(s)
	}
	return first + 1
}
