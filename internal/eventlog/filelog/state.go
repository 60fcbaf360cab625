package filelog

import (
	"context"
	"sort"
	"sync"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A logState is what the store keeps in memory of one log.
type logState struct {
	// Static.
	name     eventlog.Name
	genesis  [16]byte
	volatile bool
	slot     int // in the high-water file

	// turn is held (by filling it) by whoever appends, fences included, until
	// the outcome is known: even when its caller has stopped waiting.
	turn chan struct{}

	trims sync.Mutex // held by Trim

	mu      sync.Mutex
	epoch   uint64 // of the newest fence: a writer of another is fenced out
	base    base
	first   eventlog.Offset // oldest record held behind the genesis; zero if none
	last    eventlog.Record // the newest, acknowledged; without its body
	durable eventlog.Offset
	ring    ring
	wake    chan struct{} // closed by publish; nil if no follower waits
}

func newLogState(name eventlog.Name, h *head, ringBytesMax int) *logState {
	return &logState{
		name: name, genesis: h.genesis, volatile: h.volatile,
		turn: make(chan struct{}, 1),
		ring: ring{bytesMax: ringBytesMax},
	}
}

// take waits for the turn to append.
func (l *logState) take(ctx context.Context, s *Store) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return eventlog.ErrClosed
	case <-s.failed:
		return eventlog.ErrUnknown
	}
}

func (l *logState) release() { <-l.turn }

// publish makes a record that is acknowledged visible to followers. The
// record's body must not change any more.
func (l *logState) publish(r *eventlog.Record, durable bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring.push(r)
	l.last = *r
	l.last.Body = nil
	if durable {
		l.durable = r.Offset
	}
	if l.first.IsZero() {
		l.first = r.Offset
	}
	if r.Kind == eventlog.Fence {
		l.epoch = r.Offset.Epoch
	}
	if l.wake != nil {
		close(l.wake)
		l.wake = nil
	}
}

// moved returns a channel that is closed when a record is published. l.mu is
// held.
func (l *logState) moved() <-chan struct{} {
	if l.wake == nil {
		l.wake = make(chan struct{})
	}
	return l.wake
}

// A ring holds the newest records of a log, in order and without a gap, so
// that followers at the tail read from memory. Records that were pushed never
// change, so that their bodies can be lent out.
type ring struct {
	bytesMax int
	bytes    int
	recs     []eventlog.Record // from recs[head]
	head     int
}

// ringRecordBytes is what a record costs beside its body.
const ringRecordBytes = 160

func (g *ring) push(r *eventlog.Record) {
	g.recs = append(g.recs, *r)
	g.bytes += ringRecordBytes + len(r.Body)
	for g.bytes > g.bytesMax && len(g.recs)-g.head > 1 {
		g.bytes -= ringRecordBytes + len(g.recs[g.head].Body)
		g.recs[g.head] = eventlog.Record{}
		g.head++
	}
	if g.head > 64 && g.head > len(g.recs)/2 {
		n := copy(g.recs, g.recs[g.head:])
		clear(g.recs[n:])
		g.recs, g.head = g.recs[:n], 0
	}
}

// behind returns the records behind after, and whether the ring reaches back
// that far. The result is valid until the next push.
func (g *ring) behind(after eventlog.Offset) ([]eventlog.Record, bool) {
	recs := g.recs[g.head:]
	if len(recs) == 0 || after.Less(recs[0].Prev) {
		return nil, false
	}
	i := sort.Search(len(recs), func(i int) bool { return after.Less(recs[i].Offset) })
	return recs[i:], true
}

// at returns the record at o, if the ring has it.
func (g *ring) at(o eventlog.Offset) (eventlog.Record, bool) {
	recs := g.recs[g.head:]
	i := sort.Search(len(recs), func(i int) bool { return !recs[i].Offset.Less(o) })
	if i < len(recs) && recs[i].Offset == o {
		return recs[i], true
	}
	return eventlog.Record{}, false
}
