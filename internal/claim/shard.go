package claim

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

const (
	// queueMax bounds the attempts that wait for one shard's loop.
	queueMax = 1 << 16

	// batchMax is how many claims always fit one record.
	batchMax = (eventlog.BodyBytesMax - 16) / wire.ClaimBytesMax

	// forgetEvery is how often a shard drops the maps it no longer needs.
	forgetEvery = 10 * time.Second

	// holdMax is how long after its receipt an attempt may still be sent to
	// the log. Whoever waited longer hears that it was not decided. The
	// generator offers a closed map's rewards anew only when no claim of it
	// can come any more, and this is what it relies on (mapgen.Options.Grace).
	holdMax = 5 * time.Second

	// reopenAfter is the pause before a shard that lost its writer opens
	// again, so that two owners that fight over it do so slowly.
	reopenAfter = 200 * time.Millisecond
)

// A shard owns one shard's log and Book.
type shard struct {
	// Static after newShard.
	service *Service
	index   int
	name    eventlog.Name
	log     *slog.Logger
	wake    chan struct{} // capacity 1; never closed

	mu         sync.Mutex
	queue      []chain       // waiting for the loop
	queued     int           // calls in it; at most queueMax
	changed    chan struct{} // closed, and made anew, when shardState changes
	shardState               // how its owner-to-be, this service, stands to it

	// Owned by run.
	book    *Book           // nil: to be built anew
	at      eventlog.Offset // of the newest record that the Book has
	claims  []cairn.Claim   // of the record that is being replayed
	spare   []chain         // the queue's other half: swapped, so that neither grows anew
	waiting []*call         // decided, but not to be told before their grant is committed
	traced  []*chainSpan    // of those that have any such, if they are traced
	tally   tally           // of what was answered in this round
	body    []byte
}

func newShard(s *Service, index int) *shard {
	name := eventlog.Shard(index)
	return &shard{
		service: s, index: index, name: name, log: s.opts.Log.With("log", string(name)),
		wake: make(chan struct{}, 1), changed: make(chan struct{}),
		shardState: shardState{want: !s.opts.Standby, asked: !s.opts.Standby},
	}
}

// put queues calls for the loop. It returns ErrNotOwner if the shard is not this
// service's, and ErrUnavailable if its queue is full or it was shut down.
func (sh *shard) put(h chain) error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch {
	case sh.shut:
		return sh.farewell()
	case !sh.want:
		return ErrNotOwner
	case sh.queued+h.n > max(queueMax, h.n):
		return ErrUnavailable
	}
	sh.queue = append(sh.queue, h)
	if sh.queued += h.n; sh.queued == h.n {
		sh.signal() // else it was told, and will take all there is
	}
	return nil
}

func (sh *shard) signal() {
	select {
	case sh.wake <- struct{}{}:
	default: // it will wake already
	}
}

// take returns all that waits in the queue, valid until the next call.
func (sh *shard) take() []chain {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	q := sh.queue
	sh.queue, sh.spare, sh.queued = sh.spare[:0], q, 0
	return q
}

// run keeps the shard until ctx ends: as a standby, and as its owner while it
// is asked to be. Each time that it loses its writer it rebuilds the Book from
// the log, by the same code.
func (sh *shard) run(ctx context.Context) error {
	defer sh.close()
	for {
		err := sh.live(ctx)
		if ctx.Err() != nil {
			return nil
		}
		sh.ended(err)
		if errors.Is(err, errReleased) {
			continue
		}
		if err := sh.lost(err); err != nil {
			return err
		}
		sh.service.metrics.takeovers.Inc()
		sh.log.Warn("lost the shard; reading it again", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(reopenAfter):
		}
	}
}

// close answers whoever still waits in the queue.
func (sh *shard) close() {
	sh.set(func(st *shardState) { *st = shardState{shut: true} })
	sh.dismiss(sh.take(), sh.farewell())
}

// dismiss answers all calls of q with err, which nobody has decided.
func (sh *shard) dismiss(q []chain, err error) {
	for i, h := range q {
		q[i] = chain{}
		h.span.fail(err)
		h.each(func(c *call) { sh.tally.answer(c, err) })
	}
	sh.flush()
}

// flush ends a round: it counts what was answered.
func (sh *shard) flush() { sh.tally.flush(sh.service.metrics) }

// farewell is what those hear who come when all is over: where a fleet is,
// somebody else has the shard, or will.
func (sh *shard) farewell() error {
	if sh.service.opts.Standby {
		return ErrNotOwner
	}
	return ErrUnavailable
}

// live is one life of the shard: it stands by until it is asked to own it,
// then decides attempts until it is released, ctx ends or the writer does.
func (sh *shard) live(ctx context.Context) error {
	w, err := sh.stand(ctx)
	if err != nil {
		return err
	}
	defer w.Close()
	sh.set(func(st *shardState) { st.opening, st.ready, st.epoch = false, true, w.Fence().Epoch })

	// The appender outlives ctx by one append: what was sent to the log gets
	// its answer, and Ctrl-C drains.
	flights := make(chan flight)
	landed := make(chan flight, 1)
	var wg sync.WaitGroup
	wg.Go(func() { appendLoop(context.WithoutCancel(ctx), w, flights, landed) })
	defer wg.Wait()
	defer close(flights)
	return sh.loop(ctx, flights, landed)
}

// A flight is one record on its way into the log.
type flight struct {
	body []byte
	from eventlog.Offset
	off  eventlog.Offset
	err  error
	span trace.Span // nil unless it has claims that are traced
}

// appendLoop appends what it is sent, one at a time, until flights is closed.
func appendLoop(ctx context.Context, w eventlog.Writer, flights <-chan flight, landed chan<- flight) {
	for f := range flights {
		f.off, f.err = w.Append(ctx, f.body, f.from)
		if f.span != nil {
			endAppend(&f)
		}
		landed <- f
	}
}

// loop decides attempts. While an append is in flight the grants of the next
// batch gather, so that batches are as large as the log is slow.
func (sh *shard) loop(ctx context.Context, flights chan<- flight, landed <-chan flight) error {
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	flying := false
	for {
		if !flying {
			sh.expire()
		}
		if !flying && sh.book.Untaken() > 0 {
			flights <- sh.depart(eventlog.Offset{Epoch: sh.at.Epoch, Seq: sh.at.Seq + 1})
			flying = true
		}
		quit := ctx.Done()
		if flying {
			quit = nil // first the answer to what is in flight
		} else if err := sh.over(); err != nil {
			return err
		}
		select {
		case <-quit:
			sh.abandon(ErrUnavailable)
			return ctx.Err()
		case f := <-landed:
			flying = false
			if err := sh.land(f); err != nil {
				return err
			}
			if f.err == nil {
				sh.at = f.off
			}
		case <-sh.wake:
			sh.decide(sh.take())
		case <-forget.C:
			sh.book.Forget(sh.service.now())
		}
	}
}

// expire withdraws the grants that waited too long for the log, which stalls.
// They are the oldest, so those behind them have waited nearly as long.
func (sh *shard) expire() {
	if at, ok := sh.book.Oldest(); ok && at.Add(holdMax) < sh.service.now() {
		sh.log.Error("the log stalls; claims that waited too long are not made", "grants", sh.book.Untaken())
		sh.book.Withdraw()
		sh.abandon(ErrUnavailable)
	}
}

// depart makes the record of the next batch.
func (sh *shard) depart(next eventlog.Offset) flight {
	claims, first := sh.book.Take(batchMax)
	sh.service.metrics.batch.Observe(float64(len(claims)))
	sh.body = wire.AppendClaims(sh.body[:0], claims)
	f := flight{body: sh.body, from: sh.book.From(next)}
	if len(sh.traced) > 0 {
		f.span = sh.startAppend(first, len(claims), len(f.body))
	}
	return f
}

// land ends the flight of a batch. It returns an error if the writer has ended.
func (sh *shard) land(f flight) error {
	switch {
	case f.err == nil:
		sh.commit(f.off)
		return nil
	case errors.Is(f.err, eventlog.ErrPushback), errors.Is(f.err, eventlog.ErrTooLarge):
		sh.log.Error("the log did not take a batch", "err", f.err)
		sh.book.Withdraw()
		sh.abandon(ErrUnavailable)
		return nil
	default:
		// Fenced or unknown: what is in flight may be in the log or not, and
		// only the log can say. Nobody hears won or gone from memory.
		sh.pend()
		return f.err
	}
}

// decide runs each call through the Book and answers those that are final.
func (sh *shard) decide(q []chain) {
	tooOld := sh.service.now().Add(-holdMax)
	for i, h := range q {
		q[i] = chain{} // the slice is used again; the batch must not be held by it
		if h.batch.at < tooOld {
			h.span.fail(ErrUnavailable)
			h.each(func(c *call) { sh.tally.answer(c, ErrUnavailable) })
			continue
		}
		if h.span != nil {
			sh.decideTraced(h)
			continue
		}
		h.each(sh.decideOne)
	}
	sh.flush()
}

func (sh *shard) decideOne(c *call) {
	b, v := c.batch, &c.answer.Verdict
	if b.lookup {
		c.grant = sh.book.Lookup(c.lay, c.attempt(), b.at, v)
	} else {
		c.grant = sh.book.Decide(c.lay, c.attempt(), b.at, c.halted, v)
	}
	if c.grant == 0 {
		sh.tally.answer(c, nil)
	} else {
		sh.waiting = append(sh.waiting, c)
	}
}

// commit makes the batch in flight the record at off, and answers all who
// waited for it.
func (sh *shard) commit(off eventlog.Offset) {
	first := sh.book.committed + 1
	last := sh.book.Commit(off)
	rest := sh.waiting[:0]
	for _, c := range sh.waiting {
		if c.grant > last {
			rest = append(rest, c)
			continue
		}
		c.answer.Verdict.Place = cairn.Place{Shard: sh.index, Epoch: off.Epoch, Seq: off.Seq, Index: int(c.grant - first)}
		sh.tally.answer(c, nil)
	}
	clear(sh.waiting[len(rest):])
	sh.waiting = rest
	if len(sh.traced) > 0 {
		sh.endChains(last, nil)
	}
	sh.flush()
}

// abandon answers all who wait with err.
func (sh *shard) abandon(err error) {
	for _, c := range sh.waiting {
		sh.tally.answer(c, err)
	}
	clear(sh.waiting)
	sh.waiting = sh.waiting[:0]
	sh.endChains(math.MaxUint64, err)
	sh.flush()
}

// pend answers all who wait that it is not decided.
func (sh *shard) pend() {
	for _, c := range sh.waiting {
		c.answer.Verdict = cairn.Verdict{Outcome: cairn.Pending, RetryAfter: reopenAfter}
		sh.tally.answer(c, nil)
	}
	clear(sh.waiting)
	sh.waiting = sh.waiting[:0]
	sh.endChains(math.MaxUint64, errPending)
	sh.flush()
}
