package fleet

import (
	"cmp"
	"context"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/fleet/fleetpb"
)

// redialAfter is the pause before a link that broke is opened again.
const redialAfter = 20 * time.Millisecond

// A fate is what became of an attempt that was sent to one owner.
type fate uint8

const (
	decided     fate = iota + 1 // verdict is its answer
	elsewhere                   // another owns the shard: owner, if it is known
	unavailable                 // not decided, and took nothing
	full                        // not sent: too many are in flight
	unsent                      // not sent: the owner can't be reached, or time was up
	lost                        // sent, and nothing came back: it may have been decided
)

// A result is a fate and what belongs to it.
type result struct {
	fate    fate
	verdict cairn.Verdict
	owner   Member // elsewhere: Name, Addr and Life
}

// A flight is an attempt on its way over a link.
type flight struct {
	attempt *cairn.Attempt // not read after the flight's end
	lookup  bool
	by      time.Time
	origin  *fleetpb.Origin // nil: nobody's
	done    func(result)    // called once; with the link's lock held: it must not wait
}

// A link is the one stream from a gateway to one owner. It opens when there is
// something to send, and again after it broke.
type link struct {
	// Static.
	peers  *peers
	member Member
	cancel context.CancelFunc // ends run
	wake   chan struct{}      // capacity 1

	mu      sync.Mutex
	next    uint64
	queue   []uint64           // ids of flights that wait to be sent
	flights map[uint64]*flight // queued and sent
	sent    map[uint64]bool
	ended   bool
}

// newLink returns a link that runs, as one of tasks, until it is closed.
func newLink(p *peers, m Member, tasks *sync.WaitGroup) *link {
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{
		peers: p, member: m, cancel: cancel, wake: make(chan struct{}, 1),
		flights: map[uint64]*flight{}, sent: map[uint64]bool{},
	}
	tasks.Go(func() { l.run(ctx) })
	return l
}

// close breaks the link: what is in flight is lost.
func (l *link) close() { l.cancel() }

// do sends an attempt and waits for what becomes of it, at most until ctx ends.
func (l *link) do(ctx context.Context, a *cairn.Attempt, lookup bool, origin *fleetpb.Origin) result {
	by, ok := ctx.Deadline()
	if !ok {
		by = time.Now().Add(withinMax)
	}
	done := make(chan result, 1)
	l.mu.Lock()
	id := l.send(&flight{attempt: a, lookup: lookup, by: by, origin: origin, done: func(r result) { done <- r }})
	l.mu.Unlock()
	wake(l.wake)
	select {
	case r := <-done:
		return r
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case r := <-done: // after all
		return r
	default:
	}
	sent := l.sent[id]
	delete(l.flights, id)
	delete(l.sent, id)
	if sent {
		return result{fate: lost}
	}
	return result{fate: unsent}
}

// send queues a flight and returns its id, or ends it. l.mu is held; whoever
// calls it wakes the link.
func (l *link) send(f *flight) uint64 {
	switch {
	case l.ended:
		f.done(result{fate: unsent})
		return 0
	case len(l.flights) >= windowMax:
		f.done(result{fate: full})
		return 0
	}
	l.next++
	l.flights[l.next] = f
	l.queue = append(l.queue, l.next)
	return l.next
}

// inFlight returns how many attempts wait for their fate.
func (l *link) inFlight() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flights)
}

func (l *link) run(ctx context.Context) {
	defer func() {
		l.mu.Lock()
		l.ended = true
		l.mu.Unlock()
		l.fail()
	}()
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
		l.stream(ctx)
		l.fail()
		select {
		case <-time.After(redialAfter):
		case <-ctx.Done():
			return
		}
	}
}

// fail ends all flights.
func (l *link) fail() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, f := range l.flights {
		r := result{fate: unsent}
		if l.sent[id] {
			r.fate = lost
		}
		f.done(r)
	}
	clear(l.flights)
	clear(l.sent)
	l.queue = l.queue[:0]
}

// stream opens the stream and carries attempts until it breaks or ctx ends.
func (l *link) stream(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := l.peers.to(l.member.Addr).Decide(ctx)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	greeted := make(chan struct{})
	wg.Go(func() {
		defer cancel()
		l.receive(s, greeted)
	})
	// The owner greets with a message that has no answers. Before that nothing
	// is sent, so that what could not be is known not to have been.
	if s.Send(nil) == nil {
		select {
		case <-greeted:
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		if batch := l.take(); len(batch) > 0 {
			if s.Send(&fleetpb.Attempts{Attempts: batch}) != nil {
				break
			}
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
		}
	}
	cancel()
	_ = s.CloseRequest()
}

// take takes what waits to be sent, and takes it for sent.
func (l *link) take() []*fleetpb.Attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	var batch []*fleetpb.Attempt
	var origin *fleetpb.Origin // of the attempt before
	n := 0
	for n < len(l.queue) && len(batch) < batchMax {
		id := l.queue[n]
		n++
		f := l.flights[id]
		if f == nil { // given up
			continue
		}
		p := attemptTo(id, f.attempt, f.lookup, f.by.Sub(now))
		if f.origin != origin {
			origin = f.origin
			p.Origin = cmp.Or(origin, nobody)
		}
		batch = append(batch, p)
		l.sent[id] = true
	}
	l.queue = l.queue[:copy(l.queue, l.queue[n:])]
	return batch
}

// receive hands out answers until the stream ends, and closes greeted with the
// first message.
func (l *link) receive(s *connect.BidiStreamForClientSimple[fleetpb.Attempts, fleetpb.Answers], greeted chan<- struct{}) {
	defer func() { _ = s.CloseResponse() }()
	for first := true; ; first = false {
		in, err := s.Receive()
		if err != nil {
			return
		}
		if first {
			close(greeted)
		}
		l.mu.Lock()
		for _, p := range in.Answers {
			f := l.flights[p.Id]
			if f == nil { // given up
				continue
			}
			delete(l.flights, p.Id)
			delete(l.sent, p.Id)
			f.done(resultOf(p, f.attempt.TileRef))
		}
		l.mu.Unlock()
	}
}

func resultOf(p *fleetpb.Answer, ref cairn.TileRef) result {
	switch r := p.Refusal; r.GetReason() {
	case fleetpb.Reason_REASON_UNSPECIFIED:
		return result{fate: decided, verdict: verdictOf(p, ref)}
	case fleetpb.Reason_REASON_NOT_OWNER:
		return result{fate: elsewhere, owner: Member{Name: r.Owner, Addr: r.Addr, Life: r.Life}}
	case fleetpb.Reason_REASON_FULL:
		return result{fate: full}
	}
	return result{fate: unavailable}
}
