package fleet

import (
	"context"
	"sync"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
)

// submitWithin is how long an attempt that was submitted is asked for.
const submitWithin = 5 * time.Second

// Submit decides several attempts, each on its own, as ClaimAll does, but does
// not wait: answered is called once for each, with its place in as, by any
// goroutine, also before Submit returns. It must be quick, and must not put
// attempts to Claims. The Answer is borrowed; as is Claims' until the last. ctx
// bounds nothing but what has to be asked for again.
func (c *Claims) Submit(ctx context.Context, as []cairn.Attempt, answered func(int, *claim.Answer)) {
	if len(as) == 0 {
		return
	}
	s := &submission{claims: c, began: time.Now(), as: as, answered: answered}
	s.ctx, s.by = c.sender(ctx, as[0].TileRef, len(as))
	var at *link // that holds what was queued and not yet woken for
	for i := range as {
		a := &as[i]
		_, l, _ := c.route(a.TileRef, Member{})
		if at != nil && at != l {
			wake(at.wake)
		}
		at = l
		done := func(r result) { s.take(i, r) }
		if l == nil {
			done(result{fate: unsent})
			continue
		}
		l.mu.Lock()
		l.send(&flight{attempt: a, by: s.began.Add(submitWithin), origin: s.by.origin, done: done})
		l.mu.Unlock()
	}
	if at != nil {
		wake(at.wake)
	}
}

// A submission is attempts that were submitted together.
type submission struct {
	claims   *Claims
	ctx      context.Context // bounds what has to be asked for again
	began    time.Time
	by       sender
	as       []cairn.Attempt
	answered func(int, *claim.Answer)
}

// take takes the fate of an attempt. Most are decided by whom they were sent
// to; the others are asked for as Claim does.
func (s *submission) take(i int, r result) {
	c := s.claims
	perhaps := r.fate == lost
	switch {
	case r.fate == decided && r.verdict.Outcome != cairn.Pending:
		s.end(i, r.verdict, nil)
		return
	case r.fate == decided:
		perhaps = true // the owner was fenced out with it in flight
	case r.fate == unavailable, r.fate == full:
		v, err := c.undecided(false, r.fate)
		s.end(i, v, err)
		return
	}
	c.metrics.retries.Inc()
	s.by.again(r.owner.Name)
	if !c.askers.start(func() {
		ctx, cancel := context.WithDeadline(s.ctx, s.began.Add(submitWithin))
		defer cancel()
		v, err := c.ask(ctx, &s.as[i], false, perhaps, s.by)
		s.end(i, v, err)
	}) {
		v, err := c.undecided(perhaps, r.fate)
		s.end(i, v, err)
	}
}

// end answers an attempt.
func (s *submission) end(i int, v cairn.Verdict, err error) {
	s.claims.metrics.duration.Observe(time.Since(s.began).Seconds())
	s.by.batch.Answered(v.Outcome, err)
	s.answered(i, &claim.Answer{Verdict: v, Err: err})
}

// askers are the goroutines that ask for attempts again.
type askers struct {
	mu    sync.Mutex
	ended bool
	tasks sync.WaitGroup
}

// start runs f, or is false if all is over.
func (k *askers) start(f func()) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ended {
		k.tasks.Go(f)
	}
	return !k.ended
}

// end waits for those that run, and starts no other.
func (k *askers) end() {
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
	k.tasks.Wait()
}

// Knows reports whether Submit would take an attempt on a tile without waiting:
// owners wait for maps, gateways don't.
func (c *Claims) Knows(cairn.TileRef) bool { return true }
