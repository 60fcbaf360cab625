package leaderboard

import (
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

// regionReach is how many characters a hunt's regional boards reach at least.
const regionReach = 4

// What a level of regional boards is reckoned to take, in bytes. Rough on
// purpose: it decides which boards there are, so it must never hang on how they
// are kept.
const (
	boardBytes = 256
	rowBytes   = 64
)

// A board is the ranks of one hunt, window and region.
type board struct {
	ranks
	span    *span
	region  cairn.Cell
	newest  cairn.Instant // at of its newest claim
	dirty   bool          // it is in the fold's list
	cut     uint32        // the last cut that has it, or that it came after
	saved   *savedBoard   // of that cut, until it is encoded
	watched atomic.Int64  // regional: published until this instant; 0 if not
}

// A span is the boards of one hunt in one window: the whole hunt's, and those
// of the cells within it.
type span struct {
	hunt   *huntFold
	window wire.Window
	hour   int64
	whole  *board
	levels []level // by how many characters longer than the hunt's root, from 1
	gone   bool    // it was dropped
}

// A level is the boards of all cells of one length that have a claim. One that
// takes more than the fold's bound is dropped as a whole and for good. What it
// takes only grows with the claims folded, whatever their order: so which
// levels there are does not hang on the order.
type level struct {
	boards map[cairn.Cell]*board
	list   []*board // the same; only ever appended to
	bytes  int      // reckoned
	over   bool     // and so dropped
}

func (f *fold) newBoard(s *span, region cairn.Cell) *board {
	b := &board{ranks: ranks{dense: region == 0}, span: s, region: region}
	if f.cut != nil {
		b.cut = f.cut.number // it has nothing of this board
	}
	return b
}

func (f *fold) newSpan(h *huntFold, w wire.Window, hour int64) *span {
	s := &span{hunt: h, window: w, hour: hour, levels: make([]level, h.depth)}
	s.whole = f.newBoard(s, 0)
	for i := range s.levels {
		s.levels[i].boards = map[cairn.Cell]*board{}
	}
	return s
}

// span returns the boards of a window, which it makes if there are none.
func (f *fold) span(h *huntFold, w wire.Window, hour int64) *span {
	if w == wire.WindowHunt {
		if h.all == nil {
			h.all = f.newSpan(h, w, 0)
		}
		return h.all
	}
	s := h.hours[hour]
	if s == nil {
		s = f.newSpan(h, w, hour)
		h.hours[hour] = s
	}
	return s
}

// spans calls yield for each window that h has boards of, in order of time.
func (h *huntFold) spans(yield func(*span)) {
	if h.all != nil {
		yield(h.all)
	}
	for _, hour := range sortedKeys(h.hours) {
		yield(h.hours[hour])
	}
}

// count returns how many boards s has.
func (s *span) count() int {
	n := 1
	for i := range s.levels {
		n += len(s.levels[i].boards)
	}
	return n
}

// board returns the board of a region, which it makes if there is none, or nil
// if its level was dropped.
func (f *fold) board(s *span, region cairn.Cell) *board {
	if region == 0 {
		return s.whole
	}
	l := s.level(region)
	if l.over {
		return nil
	}
	b := l.boards[region]
	if b == nil {
		b = f.newBoard(s, region)
		l.boards[region] = b
		l.list = append(l.list, b)
		l.bytes += boardBytes
	}
	return b
}

// level returns the level of a region that lies within the hunt's root.
func (s *span) level(region cairn.Cell) *level {
	return &s.levels[region.Precision()-s.hunt.root.Precision()-1]
}

// grew reckons rows that came to a regional board.
func (f *fold) grew(b *board, rows int) {
	if rows == 0 || b.region == 0 {
		return
	}
	if l := b.span.level(b.region); !l.over {
		if l.bytes += rows * rowBytes; l.bytes > f.bound {
			*l = level{over: true}
		}
	}
}

// dropped reports whether b was dropped: it is not what readers get.
func (b *board) dropped() bool {
	return b.span.gone || b.region != 0 && b.span.level(b.region).over
}

// key returns what names b.
func (b *board) key() wire.BoardKey {
	return wire.BoardKey{Hunt: b.span.hunt.id, Window: b.span.window, Hour: b.span.hour, Region: b.region}
}

// watchFor is how long a regional board is published after it was asked for.
const watchFor = time.Minute

// watch notes that b is being looked at. It may be called concurrently.
func (b *board) watch(now cairn.Instant) { b.watched.Store(int64(now.Add(watchFor))) }

// published reports whether b goes to the standings log: the hunt's own
// boards always do, regional ones while they are looked at.
func (b *board) published(now cairn.Instant) bool {
	return !b.dropped() && (b.region == 0 || b.watched.Load() > int64(now))
}

// row returns a line of a board without its rank.
func (b *board) row(s ranked) wire.Row {
	p := b.span.hunt.players.at(s.player)
	return wire.Row{Player: p.id, Name: p.name, Score: s.key.score(), Claims: int(s.claims)}
}
