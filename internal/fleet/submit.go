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
	began := time.Now()
	var at *link // that holds what was queued and not yet woken for
	for i := range as {
		a := &as[i]
		_, l, _ := c.route(a.TileRef, Member{})
		if at != nil && at != l {
			wake(at.wake)
		}
		at = l
		done := func(r result) { c.submitted(ctx, began, a, r, i, answered) }
		if l == nil {
			done(result{fate: unsent})
			continue
		}
		l.mu.Lock()
		l.send(&flight{attempt: a, by: began.Add(submitWithin), done: done})
		l.mu.Unlock()
	}
	if at != nil {
		wake(at.wake)
	}
}

// submitted takes the fate of a submitted attempt. Most are decided by whom
// they were sent to; the others are asked for as Claim does.
func (c *Claims) submitted(ctx context.Context, began time.Time, a *cairn.Attempt, r result, i int, answered func(int, *claim.Answer)) {
	end := func(v cairn.Verdict, err error) {
		c.metrics.duration.Observe(time.Since(began).Seconds())
		answered(i, &claim.Answer{Verdict: v, Err: err})
	}
	perhaps := r.fate == lost
	switch {
	case r.fate == decided && r.verdict.Outcome != cairn.Pending:
		end(r.verdict, nil)
		return
	case r.fate == decided:
		perhaps = true // the owner was fenced out with it in flight
	case r.fate == unavailable, r.fate == full:
		end(c.undecided(false, r.fate))
		return
	}
	c.metrics.retries.Inc()
	if !c.askers.start(func() {
		ctx, cancel := context.WithDeadline(ctx, began.Add(submitWithin))
		defer cancel()
		end(c.ask(ctx, a, false, perhaps))
	}) {
		end(c.undecided(perhaps, r.fate))
	}
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
