package broadcast

import (
	"slices"

	"golang.org/x/sys/unix"
)

const slabSize = 1024 // records; a power of two

// A slab is a piece of the table of connections: it never moves, and its
// records hold no pointer, so that the collector has nothing to look at.
type slab struct {
	records  [slabSize]record
	sessions [slabSize]*session // nil for those who only watch one hunt, as most do
}

// A record is all that is kept of a connection that is idle.
type record struct {
	spot         // of the first hunt that it watches
	fd    int32  // the socket; -1 in a slot that is free
	gen   uint32 // how often the slot was given away
	told  uint32 // the life whose epoch the client knows; 0 for none
	heard uint32 // when its last bytes came (Hub.clock)
	mark  uint32 // when it came, until it says hello; when it was last sent a ping; when it was told goodbye
	flags uint16
	codec Codec
	why   uint8 // it ended: an index of endReasons
}

// A spot is how far a connection has been told of one view: what a cursor is
// elsewhere.
type spot struct {
	seq    uint64 // of the newest batch that it has
	n      uint32 // that batch's number
	life   uint32 // the number of the life that it is of; 0 before the first frame
	view   uint32 // the number of its audience; 0 for none
	at     uint32 // in its audience's members
	resume bool   // it was set by the client and not yet by a frame
}

const (
	flagHello   = 1 << iota // it said hello
	flagEarly               // it sent something behind its handshake that nobody looked at
	flagStalled             // its socket takes nothing now, or is to take something before all else
	flagBehind              // it stands in loop.behind
	flagBye                 // it was told goodbye, or is told as soon as its socket takes it
	flagGone                // the goodbye is written
	flagEnded               // its socket is shut down
	flagTurn                // it stands in loop.turns
)

// endReasons are why connections end, as a record numbers them.
var endReasons = [...]string{"", endClient, endLost, endProtocol, endSlow, endSilent, endHandshake, endServer}

// An audience is the connections of a loop that watch one view.
type audience struct {
	view    *view
	number  uint32
	members []uint32 // slots; with extraSpot, of connections whose first hunt is another
	due     bool     // it stands in loop.due
	next    int      // in a pass: the member whose turn it is; 0 outside

	// What the pass writes.
	head *batch
	out  out
}

// extraSpot marks members whose spot of this view is not their record's own.
const extraSpot = 1 << 31

// recordAt and sessionAt return what a slot has room for, whoever has it now.
// l.mu is held.
func (l *loop) recordAt(slot uint32) *record { return &l.slabs[slot/slabSize].records[slot%slabSize] }

func (l *loop) sessionAt(slot uint32) **session {
	return &l.slabs[slot/slabSize].sessions[slot%slabSize]
}

// record returns a connection's record, or nil if the connection is gone. l.mu
// is held.
func (l *loop) record(c handle) *record {
	r := l.recordAt(c.slot)
	if r.gen != c.gen || r.fd < 0 {
		return nil
	}
	return r
}

// take returns a free slot, or makes room. l.mu is held.
func (l *loop) take() uint32 {
	if len(l.free) == 0 {
		s := &slab{}
		first := uint32(len(l.slabs) * slabSize)
		l.slabs = append(l.slabs, s)
		for i := slabSize - 1; i >= 0; i-- {
			s.records[i].fd = -1
			l.free = append(l.free, first+uint32(i))
		}
	}
	slot := l.free[len(l.free)-1]
	l.free = l.free[:len(l.free)-1]
	return slot
}

// forget frees a connection's slot, and returns the views that it had, to be
// released without l.mu, which is held.
func (l *loop) forget(c handle, r *record) []*view {
	var views []*view
	for _, s := range l.spots(c, r) {
		views = append(views, l.audiences[s.view].view)
		l.leave(s)
	}
	delete(l.more, c.slot)
	delete(l.endings, c.slot)
	if r.flags&flagStalled != 0 {
		delete(l.stalls, c.slot)
		l.hub.metrics.stalled.Dec()
	}
	*r = record{fd: -1, gen: r.gen + 1}
	*l.sessionAt(c.slot) = nil
	l.free = append(l.free, c.slot)
	return views
}

// spots returns what a connection watches. They are good until it changes.
func (l *loop) spots(c handle, r *record) []*spot {
	var all []*spot
	if r.view != 0 {
		all = append(all, &r.spot)
	}
	extra := l.more[c.slot]
	for i := range extra {
		all = append(all, &extra[i])
	}
	return all
}

// spotOf returns the spot of a member of an audience.
func (l *loop) spotOf(a *audience, member uint32) (slot uint32, r *record, s *spot) {
	slot = member &^ extraSpot
	r = l.recordAt(slot)
	if member&extraSpot == 0 {
		return slot, r, &r.spot
	}
	extra := l.more[slot]
	i := slices.IndexFunc(extra, func(s spot) bool { return s.view == a.number })
	return slot, r, &extra[i]
}

// join makes a spot one of a view's audience.
func (l *loop) join(slot uint32, s *spot, extra bool, v *view) {
	a := l.byView[v]
	if a == nil {
		a = &audience{view: v}
		if n := len(l.unused); n > 0 {
			a.number, l.unused = l.unused[n-1], l.unused[:n-1]
			l.audiences[a.number] = a
		} else {
			a.number = uint32(len(l.audiences))
			l.audiences = append(l.audiences, a)
		}
		l.byView[v] = a
	}
	member := slot
	if extra {
		member |= extraSpot
	}
	s.view, s.at = a.number, uint32(len(a.members))
	a.members = append(a.members, member)
}

// leave undoes join. Whoever takes its place in the order of a pass that is
// under way is not forgotten.
func (l *loop) leave(s *spot) {
	a := l.audiences[s.view]
	at, last := int(s.at), len(a.members)-1
	moved := a.members[last]
	a.members = a.members[:last]
	if at < last {
		a.members[at] = moved
		slot, r, ms := l.spotOf(a, moved)
		ms.at = uint32(at)
		if at < a.next && last >= a.next {
			l.bring(handle{l, slot, r.gen}, r, ms, a)
		}
	}
	a.next = min(a.next, last)
	s.view = 0
	if last == 0 {
		delete(l.byView, a.view)
		l.audiences[a.number] = nil
		l.unused = append(l.unused, a.number)
	} else if cap(a.members) > 64 && last < cap(a.members)/4 {
		a.members = slices.Clip(slices.Clone(a.members))
	}
}

// adopt makes a connected socket one of the loop's connections.
func (l *loop) adopt(fd int, early []byte, codec Codec, edge Edge, ended func(error)) (handle, error) {
	now := l.hub.clock()
	s := &session{hub: l.hub, codec: codec, edge: edge, claims: &l.claims}
	l.mu.Lock()
	c := handle{loop: l, slot: l.take()}
	r := l.recordAt(c.slot)
	c.gen = r.gen
	*r = record{fd: int32(fd), gen: r.gen, heard: now, mark: now, codec: codec}
	if len(early) > 0 {
		s.in.rest = slices.Clone(early)
		r.flags |= flagEarly
	}
	s.out = &link{handle: c, codec: codec}
	*l.sessionAt(c.slot) = s
	if ended != nil {
		l.endings[c.slot] = &ending{ended: ended}
	}
	l.hub.connected(1)
	// Edges, of both kinds and for good: a connection costs this one call. It is
	// ready to be written to now, so that the loop looks at it once in any case.
	err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(c.slot), Pad: int32(c.gen),
	})
	if err != nil {
		l.forget(c, r)
		l.hub.connected(-1)
	}
	l.mu.Unlock()
	return c, err
}

// session returns what a client said so far, for the loop's goroutine: if only
// the record is left of it, made anew from that. l.mu is held.
func (l *loop) session(c handle, r *record) *session {
	p := l.sessionAt(c.slot)
	if *p == nil {
		*p = &session{hub: l.hub, out: &link{handle: c, codec: r.codec}, codec: r.codec, claims: &l.claims, hello: r.flags&flagHello != 0}
		if r.view != 0 {
			v := l.audiences[r.view].view
			(*p).watched = []watched{{v.hunt, len(v.asked)}}
		}
	}
	return *p
}
