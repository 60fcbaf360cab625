package leaderboard

import (
	"slices"

	"github.com/veltrix/cairn"
)

// fewMax is how many players a board keeps in a list. Most regional boards
// have few: such a board takes 64 bytes a player, and no tree.
const fewMax = 32

// ranks is the order of the players of one board. The order in which claims
// are added does not matter. It is a plain value: whoever uses it guards it.
type ranks struct {
	few   []ranked // in rank order, while there are at most fewMax
	tree  *tree    // then; few is nil
	dense bool     // most players of the hunt will be here
}

// players returns how many have a rank.
func (r *ranks) players() int {
	if r.tree != nil {
		return r.tree.players()
	}
	return len(r.few)
}

// find returns where in few a player is, or -1.
func (r *ranks) find(player uint32) int {
	for i := range r.few {
		if r.few[i].player == player {
			return i
		}
	}
	return -1
}

// add folds one claim. It reports whether it is the newest of its player here,
// by (at, place).
func (r *ranks) add(player uint32, reward cairn.Micro, at cairn.Instant, pl place) (newest bool) {
	if r.tree != nil {
		return r.tree.add(player, reward, at, pl)
	}
	i := r.find(player)
	if i < 0 {
		r.put(sortKeyOf(reward, at), standing{last: pl, player: player, claims: 1})
		return true
	}
	s := r.few[i]
	s.claims++
	s.key, newest = s.key.plus(reward, at, &s.last, pl)
	for ; i > 0 && s.compare(&r.few[i-1]) < 0; i-- {
		r.few[i] = r.few[i-1]
	}
	for ; i+1 < len(r.few) && r.few[i+1].compare(&s) < 0; i++ {
		r.few[i] = r.few[i+1]
	}
	r.few[i] = s
	return newest
}

// put adds a player that is not on the board.
func (r *ranks) put(key sortKey, s standing) {
	if r.tree == nil && len(r.few) == fewMax {
		r.tree = newTree(r.dense)
		for i := range r.few {
			r.tree.put(r.few[i].key, r.few[i].standing)
		}
		r.few = nil
	}
	if r.tree != nil {
		r.tree.put(key, s)
		return
	}
	x := ranked{key, s}
	i, _ := slices.BinarySearchFunc(r.few, &x, func(a ranked, b *ranked) int { return a.compare(b) })
	r.few = slices.Insert(r.few, i, x)
}

// has reports whether a player is on the board.
func (r *ranks) has(player uint32) bool {
	if r.tree == nil {
		return r.find(player) >= 0
	}
	_, ok := r.tree.slotFor(player)
	return ok
}

// rank returns a player's rank, from 1, or 0 if it is not on the board.
func (r *ranks) rank(player uint32) int {
	if r.tree != nil {
		return r.tree.rank(player)
	}
	return r.find(player) + 1
}

// get returns a player as it stands.
func (r *ranks) get(player uint32) (ranked, bool) {
	if r.tree != nil {
		return r.tree.get(player)
	}
	if i := r.find(player); i >= 0 {
		return r.few[i], true
	}
	return ranked{}, false
}

// top calls yield for the first n players in rank order.
func (r *ranks) top(n int, yield func(ranked)) {
	if r.tree != nil {
		r.tree.top(n, yield)
		return
	}
	for _, s := range r.few[:min(max(n, 0), len(r.few))] {
		yield(s)
	}
}

// around calls yield for a player and up to n on each side, in rank order, and
// returns the rank of the first, or 0 if the player is not on the board.
func (r *ranks) around(player uint32, n int, yield func(ranked)) int {
	if r.tree != nil {
		return r.tree.around(player, n, yield)
	}
	i := r.find(player)
	if i < 0 {
		return 0
	}
	first := max(0, i-n)
	for _, s := range r.few[first:min(len(r.few), i+n+1)] {
		yield(s)
	}
	return first + 1
}
