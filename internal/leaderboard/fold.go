package leaderboard

import (
	"fmt"
	"slices"
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

// A fold is all that the shard logs, and the ends of hunts, say about ranks. It
// commutes over shards: any interleaving of the same records gives the same
// fold, to the byte of its encoding. It is a plain value without goroutines,
// clock or I/O: whoever uses it guards it.
type fold struct {
	rules
	shards [cairn.ShardsMax]shardFold
	order  []int // shards that have a record, ascending
	hunts  map[cairn.HuntID]*huntFold
	newest cairn.Instant // the largest at folded
	claims uint64        // folded; not in the encoding

	ends map[cairn.HuntID]cairn.Instant // when hunts ended; not in the encoding
	gone map[cairn.HuntID]bool          // hunts whose boards were all dropped

	dirty []*board // to be published: changed since the last take, each once
	cuts  uint32   // how many were begun
	cut   *cut     // that is being encoded, or nil
}

// rules are what decides which regional boards a fold keeps.
type rules struct {
	depth int // levels at least, see levels; 0 is none at all
	bound int // of a level, in reckoned bytes
}

// levels returns how many levels of regional boards a hunt within root has.
func (r rules) levels(root cairn.Cell) int {
	if r.depth == 0 {
		return 0
	}
	return min(max(r.depth, regionReach-root.Precision()), cairn.CellPrecisionMax-root.Precision())
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
	depth   int        // levels of regional boards
	numbers map[cairn.PlayerID]uint32
	players chunks[player]
	saved   *copying[player] // of the fold's cut, until they are encoded

	all   *span           // nil before the first claim
	hours map[int64]*span // the newest hoursKept
	shut  bool            // it ended a while ago: all but its own board is dropped
}

type player struct {
	id   cairn.PlayerID
	name string // of its newest claim in the hunt
}

func newFold(r rules) *fold {
	return &fold{
		rules: r, hunts: map[cairn.HuntID]*huntFold{},
		ends: map[cairn.HuntID]cairn.Instant{}, gone: map[cairn.HuntID]bool{},
	}
}

// hunt returns the fold of a hunt, or nil if it is gone. A new one lies within
// root.
func (f *fold) hunt(id cairn.HuntID, root cairn.Cell) *huntFold {
	h := f.hunts[id]
	if h == nil && !f.gone[id] {
		h = &huntFold{
			id: id, root: root, depth: f.levels(root),
			numbers: map[cairn.PlayerID]uint32{}, hours: map[int64]*span{},
		}
		f.hunts[id] = h
	}
	return h
}

// apply folds one record of a shard's log: its claims, if it has any. Every
// hunt in it must be known or gone. A record that was folded before is ignored.
func (f *fold) apply(shard int, rec *eventlog.Record, claims []cairn.Claim) error {
	s := &f.shards[shard]
	if rec.Offset.Compare(s.offset) <= 0 {
		return nil
	}
	f.cut.beforeRecord(shard)
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
		f.claim(c, pl)
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
func (f *fold) claim(c *cairn.Claim, pl place) {
	f.claims++
	if c.At > f.newest {
		was := f.newest
		f.newest = c.At
		if HourOf(c.At) != HourOf(was) {
			f.dropHours()
		}
		if minuteOf(c.At) != minuteOf(was) {
			f.dropEnded()
		}
	}
	h := f.hunts[c.Hunt]
	if h == nil {
		return // gone
	}
	no := h.number(c.Player)
	all := f.span(h, wire.WindowHunt, 0)
	if newest := f.add(all.whole, no, c, pl); newest {
		if p := h.players.at(no); p.name != c.Name {
			h.saved.before(no, *p)
			p.name = c.Name
		}
	}
	if h.shut {
		return
	}
	var hourly *span // nil if that hour is over
	if at := HourOf(c.At); at >= f.oldestHour() {
		hourly = f.span(h, wire.WindowHour, at)
		f.add(hourly.whole, no, c, pl)
	}
	if !h.root.Contains(c.Cell) {
		return
	}
	first := h.root.Precision() + 1
	for p := first; p < first+h.depth && p <= c.Cell.Precision(); p++ {
		region := c.Cell.Prefix(p)
		f.add(f.board(all, region), no, c, pl)
		if hourly != nil {
			f.add(f.board(hourly, region), no, c, pl)
		}
	}
}

// add folds a claim into a board, which may be nil.
func (f *fold) add(b *board, no uint32, c *cairn.Claim, pl place) (newest bool) {
	if b == nil {
		return false
	}
	f.cut.before(b, no)
	b.newest = max(b.newest, c.At)
	f.touch(b)
	before := b.players()
	newest = b.add(no, c.Reward, c.At, pl)
	f.grew(b, b.players()-before)
	return newest
}

// touch puts a board on the list of those to be published, if anyone looks.
func (f *fold) touch(b *board) {
	if !b.dirty && (b.region == 0 || b.watched.Load() != 0) {
		b.dirty = true
		f.dirty = append(f.dirty, b)
	}
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
		for hour, s := range h.hours {
			if hour < oldest {
				h.drop(s)
			}
		}
	}
}

// drop drops all boards of an hour.
func (h *huntFold) drop(s *span) {
	s.gone = true
	delete(h.hours, s.hour)
}

// asOf returns how far each shard is folded.
func (f *fold) asOf() []wire.ShardOffset {
	out := make([]wire.ShardOffset, 0, len(f.order))
	for _, i := range f.order {
		out = append(out, wire.ShardOffset{Shard: i, Offset: f.shards[i].offset})
	}
	return out
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
