package leaderboard

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// A cut is a fold as it stands at one instant, encoded while the fold goes on.
// What is large is copied in steps, each of which holds the fold for some tens
// of microseconds; what changes before its step is saved first:
//
//   - begin notes the offsets, and how long each list is: lists only grow;
//   - a shard's tiles are copied before its next record is folded;
//   - a board of few players is copied before its next claim;
//   - of other boards and of the players' names, the row that changes is saved,
//     if it was not copied yet. When all are copied, the saved rows are put back over
//     the copies, the oldest last.
//
// So the encoding is that of the fold at begin, to the byte, whatever came
// after. There is one cut of a fold at a time.
type cut struct {
	number  uint32
	fold    *fold
	genesis map[int][16]byte

	newest cairn.Instant
	shards []cutShard // by number
	index  [cairn.ShardsMax]int16
	gone   []cairn.HuntID
	hunts  []cutHunt // by id, once it is encoded
}

type cutShard struct {
	shard  int
	offset eventlog.Offset
	tiles  []byte // encoded; nil until it is copied
}

type cutHunt struct {
	*huntFold
	shut  bool
	spans []cutSpan
}

type cutSpan struct {
	*span
	levels []level // without their boards, but with the lists
}

// A savedBoard is what a cut has of a board.
type savedBoard struct {
	newest cairn.Instant
	rows   copying[ranked]
}

// A copying is a list that is copied while it changes and grows. A nil copying
// needs nothing saved.
type copying[T any] struct {
	n    uint32 // how long it was at the cut
	next uint32 // those before are copied
	out  []T
	undo []overwritten[T] // since the cut, and not copied before
}

type overwritten[T any] struct {
	i   uint32
	was T
}

// before saves item i, which is about to change.
func (c *copying[T]) before(i uint32, was T) {
	if c != nil && i >= c.next && i < c.n {
		c.undo = append(c.undo, overwritten[T]{i, was})
	}
}

// copyStep is how many items are copied while a fold is held.
const copyStep = 512

// step copies some items, and reports whether there are more. The fold is held.
func (c *copying[T]) step(at func(i uint32) T) (more bool) {
	for range min(copyStep, c.n-c.next) {
		c.out = append(c.out, at(c.next))
		c.next++
	}
	return c.next < c.n
}

// end returns the list as it was at the cut.
func (c *copying[T]) end() []T {
	for _, u := range slices.Backward(c.undo) {
		c.out[u.i] = u.was
	}
	c.undo = nil
	return c.out
}

// begin begins a cut. genesis are the ids of the logs that f is the fold of.
// The fold is held, against readers too.
func (f *fold) begin(genesis map[int][16]byte) *cut {
	f.cuts++
	c := &cut{number: f.cuts, fold: f, genesis: genesis, newest: f.newest}
	for _, i := range f.order {
		c.index[i] = int16(len(c.shards))
		c.shards = append(c.shards, cutShard{shard: i, offset: f.shards[i].offset})
	}
	for id := range f.gone {
		c.gone = append(c.gone, id)
	}
	for _, h := range f.hunts {
		h.saved = &copying[player]{n: h.players.n}
		ch := cutHunt{huntFold: h, shut: h.shut}
		h.spans(func(s *span) {
			cs := cutSpan{span: s, levels: make([]level, len(s.levels))}
			for i := range s.levels {
				cs.levels[i] = level{list: s.levels[i].list, over: s.levels[i].over}
			}
			ch.spans = append(ch.spans, cs)
		})
		c.hunts = append(c.hunts, ch)
	}
	f.cut = c
	return c
}

// beforeRecord saves what a record of a shard may change. The fold is held.
func (c *cut) beforeRecord(shard int) {
	if c == nil {
		return
	}
	if i := int(c.index[shard]); i < len(c.shards) && c.shards[i].shard == shard {
		c.shards[i].save(&c.fold.shards[shard].seen)
	}
}

func (s *cutShard) save(seen *seenTiles) {
	if s.tiles == nil {
		s.tiles = seen.appendTo(nil)
	}
}

// before saves what a claim of a player may change on a board. The fold is held.
func (c *cut) before(b *board, player uint32) {
	if c == nil {
		return
	}
	b.save(c.number)
	if b.saved == nil || b.saved.rows.next >= b.saved.rows.n {
		return
	}
	if slot, ok := b.find(player); ok {
		b.saved.rows.before(slot, b.slot(slot))
	}
}

// save begins to copy a board, and copies all of one with few players.
func (b *board) save(cut uint32) {
	if b.cut == cut {
		return
	}
	b.cut = cut
	b.saved = &savedBoard{newest: b.newest}
	if n := b.players(); n <= fewMax && b.tree == nil {
		b.saved.rows.out = b.inOrder(make([]ranked, 0, n))
	} else {
		b.saved.rows.n = uint32(n)
	}
}

// offsets returns how far c has folded each shard.
func (c *cut) offsets() map[int]eventlog.Offset {
	out := map[int]eventlog.Offset{}
	for i := range c.shards {
		out[c.shards[i].shard] = c.shards[i].offset
	}
	return out
}

// encode returns the bytes of c and ends it. hold calls its argument while no
// claim is folded; readers may read.
func (c *cut) encode(hold func(func())) []byte {
	b := c.appendHead(nil)
	b = binary.AppendUvarint(b, uint64(len(c.shards)))
	for i := range c.shards {
		s := &c.shards[i]
		var saved cutShard
		hold(func() {
			s.save(&c.fold.shards[s.shard].seen)
			saved, s.tiles = *s, []byte{} // so that no record saves them again
		})
		b = saved.appendTo(b, c.genesis[s.shard])
	}
	slices.SortFunc(c.hunts, func(a, b cutHunt) int { return cmp.Compare(a.id, b.id) })
	b = binary.AppendUvarint(b, uint64(len(c.hunts)))
	for i := range c.hunts {
		b = c.appendHunt(b, &c.hunts[i], hold)
	}
	hold(func() { c.fold.cut = nil })
	return seal(b)
}

// appendHunt appends a hunt with its boards.
func (c *cut) appendHunt(b []byte, h *cutHunt, hold func(func())) []byte {
	names := h.saved
	names.out = make([]player, 0, names.n)
	for more := true; more; {
		hold(func() { more = names.step(func(i uint32) player { return *h.players.at(i) }) })
	}
	hold(func() { h.saved = nil })
	players := names.end()
	if len(h.spans) == 0 {
		return binary.AppendUvarint(h.appendPlayers(b, players, nil), 0)
	}
	// Players are numbered as they came: number them anew, by rank on the
	// hunt's own board, which has them all. So they come to it in that order
	// when this is decoded.
	var whole savedBoard
	c.copy([]*board{h.spans[0].whole}, hold, func(_ *board, s *savedBoard) { whole = *s })
	index := make([]uint32, len(players))
	for i := range whole.rows.out {
		index[whole.rows.out[i].player] = uint32(i)
	}
	b = h.appendPlayers(b, players, whole.rows.out)
	b = binary.AppendUvarint(b, uint64(len(h.spans)))
	for i, s := range h.spans {
		b = s.appendHead(b)
		if i == 0 {
			b = appendBoard(binary.AppendUvarint(b, 1), 0, whole.newest, whole.rows.out, index)
		} else {
			b = c.appendBoards(b, []*board{s.whole}, index, hold)
		}
		for i := range s.levels {
			// They are listed as they came.
			boards := slices.SortedFunc(slices.Values(s.levels[i].list), func(a, b *board) int { return cmp.Compare(a.region, b.region) })
			b = c.appendBoards(b, boards, index, hold)
		}
	}
	return b
}

// appendBoards appends boards of one level.
func (c *cut) appendBoards(b []byte, boards []*board, index []uint32, hold func(func())) []byte {
	b = binary.AppendUvarint(b, uint64(len(boards)))
	c.copy(boards, hold, func(x *board, s *savedBoard) {
		b = appendBoard(b, x.region, s.newest, s.rows.out, index)
	})
	return b
}

// boardsStep is how many boards are looked at while a fold is held.
const boardsStep = 64

// copy calls yield with each board as it was at the cut, its rows in rank order.
func (c *cut) copy(boards []*board, hold func(func()), yield func(*board, *savedBoard)) {
	var saved [boardsStep]*savedBoard
	for step := range slices.Chunk(boards, boardsStep) {
		hold(func() {
			for i, x := range step {
				x.save(c.number)
				saved[i] = x.saved
			}
		})
		for i, x := range step {
			s := saved[i]
			if s.rows.n > 0 { // not few
				s.rows.out = make([]ranked, 0, s.rows.n)
				for more := true; more; {
					hold(func() { more = s.rows.step(x.slot) })
				}
				slices.SortFunc(s.rows.end(), compareRanked)
			}
			yield(x, s)
		}
		hold(func() {
			for _, x := range step {
				x.saved = nil
			}
		})
	}
}
