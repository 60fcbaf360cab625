package redislog

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A game in small: maps open one after the other, each with a few tiles, and
// an owner grants a tile to whoever asks first. Its memory goes back mapsKept
// maps; whoever takes over learns what it must from the log alone.
const (
	mapEvery = 100 * time.Millisecond
	mapsKept = 3
	mapTiles = 3
)

// A grant is a claim: the player has the tile.
type grant struct{ tile, player int }

// A batchBody is what one record of the game says: the map that is open, and
// who got what.
type batchBody struct {
	open   int
	grants []grant
}

func (b batchBody) encode(serial int) []byte {
	out := fmt.Appendf(nil, "%d %d", serial, b.open)
	for _, g := range b.grants {
		out = fmt.Appendf(out, " %d:%d", g.tile, g.player)
	}
	return out
}

func parseBody(text string) batchBody {
	fields := strings.Fields(text)
	var b batchBody
	b.open, _ = strconv.Atoi(fields[1])
	for _, f := range fields[2:] {
		t, p, _ := strings.Cut(f, ":")
		tile, _ := strconv.Atoi(t)
		player, _ := strconv.Atoi(p)
		b.grants = append(b.grants, grant{tile, player})
	}
	return b
}

// A book is an owner's memory.
type book struct {
	open   int
	owner  map[int]int             // of tiles of maps that are remembered
	first  map[int]eventlog.Offset // the first record of each such map
	newest eventlog.Offset         // the newest record of the game
}

func (b *book) add(at eventlog.Offset, body batchBody) {
	b.open, b.newest = max(b.open, body.open), at
	for _, g := range body.grants {
		if _, ok := b.owner[g.tile]; !ok {
			b.owner[g.tile] = g.player
		}
		m := g.tile / mapTiles
		if _, ok := b.first[m]; !ok {
			b.first[m] = at
		}
	}
}

// forget drops maps that have closed, and returns the oldest record that is
// still needed.
func (b *book) forget() eventlog.Offset {
	from := b.newest
	for m, at := range b.first {
		if m < b.open-mapsKept {
			delete(b.first, m)
			for t := range mapTiles {
				delete(b.owner, m*mapTiles+t)
			}
		} else if at.Less(from) {
			from = at
		}
	}
	return from
}

// owner is a process that becomes the log's writer now and then.
func (w *sim) owner(p *proc) {
	s := p.open()
	ctx := s.ctx
	for !w.calm || p.name == "o0" {
		began := w.moment()
		wr, err := s.Open(ctx, simLog)
		if err != nil {
			w.tracef("%s: %v", p.name, err)
			w.refusedOpen(p, err)
			if w.lost {
				return
			}
			p.idle(time.Duration(20+w.rng.IntN(100)) * time.Millisecond)
			continue
		}
		w.opened(p, wr.(*writer), began)
		if b := w.replay(p, s, wr); b != nil {
			w.serve(p, s, wr, b)
		}
		if w.calm && w.final.Epoch != 0 {
			return
		}
		p.idle(time.Duration(w.rng.IntN(300)) * time.Millisecond)
	}
}

// replay reads what a writer needs of the log before its fence.
func (w *sim) replay(p *proc, s *Store, wr eventlog.Writer) *book {
	b := &book{owner: make(map[int]int), first: make(map[int]eventlog.Offset), newest: wr.Fence()}
	from := wr.From()
	if !from.IsZero() {
		from = from.Before()
	}
	f, err := s.Follow(s.ctx, simLog, from)
	if err != nil {
		w.unreadable(p, err)
		return nil
	}
	defer f.Close()
	calm := w.calm
	for end := w.now + 2*time.Second; ; {
		recs, err := w.pollFor(p, s, f.(*follower), end)
		if err != nil {
			w.unreadable(p, err)
			return nil
		}
		if len(recs) == 0 { // the fence is lost, and its writer may not know
			if calm && wr.(*writer).ended == nil {
				w.failf("%s: the fence %v is lost, and its writer has not looked", p.name, wr.Fence())
			}
			w.tracef("%s: no fence: %v", p.name, wr.Close())
			return nil
		}
		for _, r := range recs {
			if !r.Offset.Less(wr.Fence()) {
				if r.Offset != wr.Fence() {
					w.failf("%s: the log has %v and not the fence %v", p.name, r.Offset, wr.Fence())
				}
				return b
			}
			if r.Kind == eventlog.Data {
				b.add(r.Offset, parseBody(string(r.Body)))
			}
		}
	}
}

// poll returns the next records, once there are some.
func (w *sim) poll(p *proc, s *Store, f *follower) ([]eventlog.Record, error) {
	return w.pollFor(p, s, f, w.now+time.Hour)
}

// pollFor returns none if none came by the given time.
func (w *sim) pollFor(p *proc, s *Store, f *follower, end time.Duration) ([]eventlog.Record, error) {
	for {
		if w.now > end {
			return nil, nil
		}
		recs, changed, err := f.step(s.ctx)
		if err != nil || len(recs) > 0 {
			return recs, err
		}
		due, _ := s.idleFeeds(0, s.armedEvery())
		for addr, feeds := range due {
			s.pollNode(addr, feeds)
		}
		select {
		case <-changed:
			continue
		default:
		}
		p.idle(s.opts.PollEvery)
	}
}

// serve appends until the writer ends, or the owner has had enough.
func (w *sim) serve(p *proc, s *Store, wr eventlog.Writer, b *book) {
	for n := w.rng.IntN(30); ; n-- {
		p.keepTopology(s)
		if n == 0 && !w.calm || w.calm && p.name != "o0" {
			wr.Close()
			w.tracef("%s: closed", p.name)
			return
		}
		body := w.decide(p, b)
		from := b.forget()
		if w.without == withoutFrom {
			from = wr.Fence()
		}
		at, ended := w.try(p, s, wr, body, from)
		if ended {
			return
		}
		if !at.IsZero() {
			b.add(at, body)
			if w.calm && w.final.Epoch == 0 {
				if w.chance(0.5) {
					p.idle(5 * time.Second) // its mark comes by itself
				} else {
					wr.Close()
				}
				if w.told(wr.(*writer)) {
					w.final = wr.(*writer).last.Offset
					w.tracef("%s: final %v", p.name, w.final)
				}
				return
			}
		}
		p.idle(time.Duration(w.rng.IntN(60)) * time.Millisecond)
	}
}

// told reports whether wr, which has been idle or closed, has told of all there
// is, or should have. It can't if another opened while all calmed down, or if it
// was closed while replicas lagged that it does not wait for: then the next to
// open tells.
func (w *sim) told(wr *writer) bool {
	list := w.stream()
	if len(list) == 0 {
		return false
	}
	last := list[len(list)-1]
	lagged := w.ack == AckPrimary && w.replicas > 0 && last.Mark != last.Prev
	return last.Offset.Epoch == wr.fence.Epoch && !lagged
}

// keepTopology does what the store's own loop does.
func (p *proc) keepTopology(s *Store) {
	if p.w.now-p.looked >= time.Second {
		p.looked = p.w.now
		_ = s.look(s.ctx, s.topo.Load())
	}
}

// decide grants what players ask for, as far as it is open and free.
func (w *sim) decide(p *proc, b *book) batchBody {
	if w.forgetful && w.chance(0.1) {
		clear(b.owner) // an owner's mistake: followers must not make it theirs
	}
	b.open = max(b.open, int((w.now+p.skew)/mapEvery))
	body := batchBody{open: b.open}
	taken := make(map[int]bool)
	for range 1 + w.rng.IntN(3) {
		tile := max(0, (b.open-w.rng.IntN(2))*mapTiles+w.rng.IntN(mapTiles))
		if _, has := b.owner[tile]; !has && !taken[tile] {
			taken[tile] = true
			w.serial++
			body.grants = append(body.grants, grant{tile, w.serial})
		}
	}
	return body
}

// try appends one record and notes what was answered.
func (w *sim) try(p *proc, s *Store, wr eventlog.Writer, body batchBody, from eventlog.Offset) (at eventlog.Offset, ended bool) {
	w.serial++
	text := body.encode(w.serial)
	began := w.moment()
	if w.calm && w.final.Epoch == 0 {
		w.tracef("%s: last append", p.name)
	}
	at, err := wr.Append(s.ctx, text, from)
	if w.trace {
		w.tracef("%s: append %s: %v %v", p.name, text, at, err)
	}
	w.answered(p, wr.(*writer), string(text), at, began, err)
	return at, err != nil && !errors.Is(err, eventlog.ErrPushback)
}

// A fold is what a follower makes of the log: who has each tile, by the first
// grant in its order (R7).
type fold struct {
	base, at eventlog.Offset // it has all records in base < offset ≤ at
	chain    eventlog.Chain  // of the record at at
	owner    map[int]int
}

func (f *fold) add(at eventlog.Offset, body batchBody, lastWins bool) {
	for _, g := range body.grants {
		if _, ok := f.owner[g.tile]; !ok || lastWins {
			f.owner[g.tile] = g.player
		}
	}
	f.at = at
}

// watch is a follower that shows the game: it begins at the log's base, and
// anew after a roll-back.
func (w *sim) watch(p *proc) {
	s := p.open()
	for {
		st, err := s.Status(s.ctx, simLog)
		if err != nil {
			if w.lost {
				return
			}
			p.idle(50 * time.Millisecond)
			continue
		}
		w.follow(p, s, &fold{base: st.Base, at: st.Base, owner: make(map[int]int)})
		if w.lost {
			return
		}
		p.idle(50 * time.Millisecond)
	}
}

func (w *sim) follow(p *proc, s *Store, v *fold) {
	f, err := s.Follow(s.ctx, simLog, v.at)
	if err != nil {
		w.unreadable(p, err)
		return
	}
	defer f.Close()
	w.folds[p.name] = v
	for {
		recs, err := w.poll(p, s, f.(*follower))
		if err != nil {
			w.tracef("%s: %v", p.name, err)
			w.unreadable(p, err)
			return
		}
		for _, r := range recs {
			if r.Kind == eventlog.Data {
				v.add(r.Offset, parseBody(string(r.Body)), w.without == withoutFirst)
			}
			v.at, v.chain = r.Offset, r.Chain
		}
	}
}

// A database is the ledger's: it outlives the processes that work on it.
type database struct {
	at    eventlog.Offset // up to here the log is in it
	chain eventlog.Chain  // of the record there
	paid  map[int]int     // player by tile: unique on the tile
	sum   int             // paid in all
}

// pay is one of the ledger's workers. It begins anew from what is in the
// database after every error: what it has read and not paid may be rolled back,
// and a node that has yet to hear of a failover may know less than it has paid.
func (w *sim) pay(p *proc) {
	s := p.open()
	for broken := 0; broken < 40; {
		began := w.sql
		st, err := s.Status(s.ctx, simLog)
		if err == nil && st.Last == began.at && st.Chain != began.chain {
			err = fmt.Errorf("%w: %v is another record", eventlog.ErrDiverged, st.Last)
		}
		var f eventlog.Follower
		if err == nil {
			f, err = s.Follow(s.ctx, simLog, began.at)
		}
		if err == nil {
			err = w.payFrom(p, s, f.(*follower), began)
			f.Close()
		}
		w.tracef("%s: %v", p.name, err)
		w.unreadable(p, err)
		switch {
		case w.lost:
			return
		case began.at != w.sql.at: // by another, too
			broken = 0
		case errors.Is(err, eventlog.ErrTrimmed), errors.Is(err, eventlog.ErrDiverged):
			broken++
		}
		p.idle(time.Duration(20+w.rng.IntN(50)) * time.Millisecond)
	}
	if w.halted = true; !w.lossy {
		w.failf("%s: the log does not go on from %v, which is paid", p.name, w.sql.at)
	}
}

var errSQL = errors.New("the transaction did not go through")

// payFrom applies what is durable, a transaction at a time.
func (w *sim) payFrom(p *proc, s *Store, f *follower, last database) error {
	var waiting []eventlog.Record
	at := last.at // and last is what was read last
	for {
		recs, err := w.poll(p, s, f)
		if err != nil {
			return err
		}
		for _, r := range recs {
			if r.Prev != last.at || r.Chain != eventlog.NextChain(last.chain, &r) {
				return fmt.Errorf("%w: %v does not stand behind %v", eventlog.ErrDiverged, r.Offset, last.at)
			}
			last.at, last.chain = r.Offset, r.Chain
			r.Body = slices.Clone(r.Body)
			waiting = append(waiting, r)
		}
		n := 0
		for n < len(waiting) && !f.durable.Less(waiting[n].Offset) {
			n++
		}
		if w.without == withoutDurable {
			n = len(waiting)
		}
		if n == 0 {
			continue
		}
		if err := w.transact(p, at, waiting[:n]); err != nil {
			return err
		}
		at, waiting = waiting[n-1].Offset, waiting[n:]
	}
}

// transact is UPDATE … WHERE offset = old, and the entries, in one transaction.
func (w *sim) transact(p *proc, old eventlog.Offset, recs []eventlog.Record) error {
	p.wait(nil, w.now+time.Millisecond)
	if w.without != withoutOffset && w.sql.at != old {
		return fmt.Errorf("%w: offset is %v, was %v", errSQL, w.sql.at, old)
	}
	unknown := !w.calm && w.sqlFaults && w.chance(0.05)
	if !w.calm && w.sqlFaults && w.chance(0.05) {
		return fmt.Errorf("%w: aborted", errSQL)
	}
	for _, r := range recs {
		if r.Kind != eventlog.Data {
			continue
		}
		for _, g := range parseBody(string(r.Body)).grants {
			if _, has := w.sql.paid[g.tile]; has && w.without != withoutUnique {
				continue
			}
			w.sql.paid[g.tile] = g.player
			w.sql.sum++
		}
	}
	if last := recs[len(recs)-1].Offset; !w.sql.at.Less(last) {
		w.failf("%s: the ledger goes back from %v to %v", p.name, w.sql.at, last)
	}
	w.sql.at, w.sql.chain = recs[len(recs)-1].Offset, recs[len(recs)-1].Chain
	w.tracef("%s: paid up to %v", p.name, w.sql.at)
	if unknown {
		return fmt.Errorf("%w: COMMIT got no answer", errSQL)
	}
	return nil
}

// trim is the janitor: it drops what the ledger has and nobody reads.
func (w *sim) trim(p *proc) {
	s := p.open()
	for {
		p.idle(time.Duration(100+w.rng.IntN(400)) * time.Millisecond)
		st, err := s.Status(s.ctx, simLog)
		if err != nil || w.calm {
			continue
		}
		before := st.From // what the next owner needs
		if w.sql.at.Less(before) {
			before = w.sql.at
		}
		if w.without == withoutTrim {
			before = st.From
		}
		if before.IsZero() {
			continue
		}
		err = s.Trim(s.ctx, simLog, before)
		w.tracef("%s: trim before %v: %v", p.name, before, err)
	}
}
