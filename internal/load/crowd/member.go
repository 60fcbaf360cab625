package crowd

// A member is one connection of a crowd, from its first try until the crowd
// ends. It has no pointers: what only some have is kept aside by slot.
type member struct {
	since  int64  // unix µs: what happened before is not timed
	began  int64  // ns of the loop's clock: when the connect began
	state  uint32 // in the loop's table
	gen    uint32 // counts what the slot was connected as, so that what is stale shows
	fd     int32  // of a link that has files
	target uint16
	phase  phase
	tries  uint8
	flags  flags
}

// A phase is how far a member got.
type phase uint8

const (
	phaseWaiting phase = iota // for its time to connect
	phaseDialing              // TCP
	phaseShaking              // the handshake's request is sent
	phaseLive                 // WebSocket
	phaseAway                 // lost while it was stalled: until it resumes
)

type flags uint16

const (
	flagSmall    flags = 1 << iota // has a small receive buffer
	flagStalled                    // does not read
	flagBeen                       // was connected before
	flagArrived                    // was ready before
	flagReady                      // knows what it watches
	flagWelcome                    // was welcomed on this connection
	flagFresh                      // nothing of the hunt came since the welcome
	flagResuming                   // said where it was
	flagHeard                      // bytes are kept that are no whole frame
)

// A handle is a member as what it is connected as now.
type handle struct{ slot, gen uint32 }

const slabSize = 1024

// at returns a member.
func (l *loop) at(slot uint32) *member { return &l.slabs[slot/slabSize][slot%slabSize] }

// current returns whom a handle means; nil if that is over.
func (l *loop) current(c handle) *member {
	if c.slot >= l.members {
		return nil
	}
	if m := l.at(c.slot); m.gen == c.gen {
		return m
	}
	return nil
}

// join adds a member.
func (l *loop) join() uint32 {
	slot := l.members
	if slot%slabSize == 0 {
		l.slabs = append(l.slabs, make([]member, slabSize))
	}
	l.members++
	m := l.at(slot)
	m.target = uint16((int(slot) + l.number) % len(l.targets))
	m.state = l.table.enter(l.table.nothing).id
	if f := l.opts.Stalled; int(float64(slot+1)*f) > int(float64(slot)*f) {
		m.flags |= flagSmall
	}
	return slot
}

// is reports whether all of f are set.
func (m *member) is(f flags) bool { return m.flags&f == f }
