package leaderboard

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// hoursKept is how many hours have a board: that of the newest claim and the
// two before it.
const hoursKept = 3

const hour = cairn.Instant(time.Hour / time.Microsecond)

// HourOf returns the hour that a claim at that instant counts in, as
// wire.BoardKey has it: whole hours of UTC since the Unix epoch.
func HourOf(at cairn.Instant) int64 {
	h := int64(at / hour)
	if at%hour < 0 {
		h--
	}
	return h
}

// A fold is all that the shard logs say about ranks. It commutes over shards:
// any interleaving of the same records gives the same fold, to the byte of its
// encoding. It is a plain value without goroutines, clock or I/O: whoever uses
// it guards it.
type fold struct {
	depth  int // levels of regional boards
	shards [cairn.ShardsMax]shardFold
	order  []int // shards that have a record, ascending
	hunts  map[cairn.HuntID]*huntFold
	newest cairn.Instant // the largest at folded
	claims uint64        // folded; not in the encoding

	dirty []*board // changed since the last take, each once
}

// A shardFold is how far one shard's log is folded.
type shardFold struct {
	offset eventlog.Offset
	seen   seenTiles
}

// A huntFold is the players and boards of one hunt.
type huntFold struct {
	id      cairn.HuntID
	root    cairn.Cell // the hunt's region, or a cell around it
	depth   int
	numbers map[cairn.PlayerID]uint32
	players chunks[player]
	boards  map[boardID]*board
}

type player struct {
	id   cairn.PlayerID
	name string // of its newest claim in the hunt
}

type boardID struct {
	window wire.Window
	hour   int64
	region cairn.Cell
}

// A board is the ranks of one hunt, window and region.
type board struct {
	*ranks
	boardID
	hunt    *huntFold
	newest  cairn.Instant // at of its newest claim
	dirty   bool          // it is in the fold's list
	watched atomic.Int64  // regional: published until this instant
}

func newFold(depth int) *fold {
	return &fold{depth: depth, hunts: map[cairn.HuntID]*huntFold{}}
}

// hunt returns the fold of a hunt. A new one lies within root.
func (f *fold) hunt(id cairn.HuntID, root cairn.Cell) *huntFold {
	h := f.hunts[id]
	if h == nil {
		h = &huntFold{
			id: id, root: root, depth: min(f.depth, cairn.CellPrecisionMax-root.Precision()),
			numbers: map[cairn.PlayerID]uint32{}, boards: map[boardID]*board{},
		}
		f.hunts[id] = h
	}
	return h
}

// apply folds one record of a shard's log: its claims, if it has any. Every
// hunt in it must be known. A record that was folded before is ignored.
func (f *fold) apply(shard int, rec *eventlog.Record, claims []cairn.Claim) error {
	s := &f.shards[shard]
	if rec.Offset.Compare(s.offset) <= 0 {
		return nil
	}
	pl := place{epoch: rec.Offset.Epoch, seq: rec.Offset.Seq, shard: uint16(shard)}
	for i := range claims {
		c := &claims[i]
		if c.Tile >= cairn.TilesPerMapMax {
			return fmt.Errorf("%w: %s at %v of shard %d: tile is out of range", wire.ErrMalformed, c.TileRef, rec.Offset, shard)
		}
		// The first grant in the log's order wins.
		if !s.seen.first(c, rec.Offset) {
			continue
		}
		pl.index = uint16(i)
		f.claim(f.hunts[c.Hunt], c, pl)
	}
	s.seen.forget(rec.From)
	f.advance(shard, rec.Offset)
	return nil
}

// advance notes how far a shard is folded.
func (f *fold) advance(shard int, o eventlog.Offset) {
	if f.shards[shard].offset.IsZero() {
		i, _ := slices.BinarySearch(f.order, shard)
		f.order = slices.Insert(f.order, i, shard)
	}
	f.shards[shard].offset = o
}

// claim folds one claim into all the boards that it belongs to.
func (f *fold) claim(h *huntFold, c *cairn.Claim, pl place) {
	f.claims++
	if c.At > f.newest {
		was := HourOf(f.newest)
		f.newest = c.At
		if HourOf(c.At) != was {
			f.dropHours()
		}
	}
	no := h.number(c.Player)
	if newest := f.add(h, boardID{window: wire.WindowHunt}, no, c, pl); newest {
		if p := h.players.at(no); p.name != c.Name {
			p.name = c.Name
		}
	}
	at := HourOf(c.At)
	kept := at >= f.oldestHour()
	if kept {
		f.add(h, boardID{window: wire.WindowHour, hour: at}, no, c, pl)
	}
	if h.depth <= 0 || !h.root.Contains(c.Cell) {
		return
	}
	first := h.root.Precision() + 1
	for p := first; p < first+h.depth && p <= c.Cell.Precision(); p++ {
		region := c.Cell.Prefix(p)
		f.add(h, boardID{window: wire.WindowHunt, region: region}, no, c, pl)
		if kept {
			f.add(h, boardID{window: wire.WindowHour, hour: at, region: region}, no, c, pl)
		}
	}
}

func (f *fold) add(h *huntFold, id boardID, no uint32, c *cairn.Claim, pl place) (newest bool) {
	b := h.board(id)
	b.newest = max(b.newest, c.At)
	f.touch(b)
	return b.add(no, c.Reward, c.At, pl)
}

// touch puts a board on the list of those that changed.
func (f *fold) touch(b *board) {
	if !b.dirty {
		b.dirty = true
		f.dirty = append(f.dirty, b)
	}
}

func (h *huntFold) board(id boardID) *board {
	b := h.boards[id]
	if b == nil {
		b = &board{ranks: newRanks(id.region.Precision() == 0), boardID: id, hunt: h}
		h.boards[id] = b
	}
	return b
}

// number returns a player's number in the hunt.
func (h *huntFold) number(id cairn.PlayerID) uint32 {
	no, ok := h.numbers[id]
	if !ok {
		no = h.players.alloc()
		h.players.at(no).id = id
		h.numbers[id] = no
	}
	return no
}

func (f *fold) oldestHour() int64 { return HourOf(f.newest) - hoursKept + 1 }

// dropHours drops the boards of hours that are over for too long. A claim of
// such an hour that comes later, from a shard that lags, is not counted in it:
// so what is kept is complete, and does not hang on the order.
func (f *fold) dropHours() {
	oldest := f.oldestHour()
	for _, h := range f.hunts {
		for id := range h.boards {
			if id.window == wire.WindowHour && id.hour < oldest {
				delete(h.boards, id)
			}
		}
	}
}

// key returns what names b.
func (b *board) key() wire.BoardKey {
	return wire.BoardKey{Hunt: b.hunt.id, Window: b.window, Hour: b.hour, Region: b.region}
}

// watchFor is how long a regional board is published after it was asked for.
const watchFor = time.Minute

// watch notes that b is being looked at. It may be called concurrently.
func (b *board) watch(now cairn.Instant) { b.watched.Store(int64(now.Add(watchFor))) }

// published reports whether b goes to the standings log: the hunt's own
// boards always do, regional ones while they are looked at.
func (b *board) published(now cairn.Instant) bool {
	return b.region == 0 || b.watched.Load() > int64(now)
}

// asOf returns how far each shard is folded.
func (f *fold) asOf() []wire.ShardOffset {
	out := make([]wire.ShardOffset, 0, len(f.order))
	for _, i := range f.order {
		out = append(out, wire.ShardOffset{Shard: i, Offset: f.shards[i].offset})
	}
	return out
}

// row returns a line of a board without its rank.
func (b *board) row(s ranked) wire.Row {
	p := b.hunt.players.at(s.player)
	return wire.Row{Player: p.id, Name: p.name, Score: s.key.score(), Claims: int(s.claims)}
}

// snapshot returns the first limit rows of b, with all but Published. b may be
// nil: a board of key that nobody is on.
func (f *fold) snapshot(key wire.BoardKey, b *board, limit int) *wire.Board {
	out := &wire.Board{BoardKey: key, AsOf: f.asOf()}
	if b == nil {
		return out
	}
	out.Players, out.Newest = b.players(), b.newest
	out.Rows = make([]wire.Row, 0, min(limit, out.Players))
	b.top(limit, func(s ranked) {
		row := b.row(s)
		row.Rank = len(out.Rows) + 1
		out.Rows = append(out.Rows, row)
	})
	return out
}
