package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/trail"
	"github.com/veltrix/cairn/internal/wire"
)

// A flight is claims that came together on one socket, on their way. It costs
// no goroutine: each is told by whoever answers it, or as pending when their
// time is up. Flights are used again, with all that they hold (flights).
type flight struct {
	timer    *time.Timer              // calls expire
	answered func(int, *claim.Answer) // f.answer

	// Static while it flies.
	server   *Server
	codec    broadcast.Codec
	reply    func(frame []byte)
	from     *connID
	traced   bool
	attempts []cairn.Attempt
	ids      []string // of the claims' frames; parallel to attempts
	ctx      context.Context
	batch    *trail.Batch // nil unless they are traced

	told []atomic.Bool // parallel to attempts
	left atomic.Int64  // answers that are yet to come, and one for the sender
}

var flights sync.Pool

func newFlight(e *edge, codec broadcast.Codec, reply func([]byte), traced bool) *flight {
	f, _ := flights.Get().(*flight)
	if f == nil {
		f = &flight{}
		f.answered = f.answer
	}
	f.server, f.codec, f.reply, f.from, f.traced = e.s, codec, reply, &e.id, traced
	return f
}

// add adds an attempt.
func (f *flight) add(a cairn.Attempt, id string) {
	f.attempts, f.ids = append(f.attempts, a), append(f.ids, id)
}

// send has the attempts decided. It does not wait for that.
func (f *flight) send(ctx context.Context) {
	n := len(f.attempts)
	if n > len(f.told) {
		f.told = make([]atomic.Bool, 2*n)
	}
	f.ctx = trail.With(ctx, f.from)
	if f.traced {
		f.ctx, f.batch = trail.Start(f.ctx, f.server.opts.Traces.Tracer, trail.SpanLive, trace.SpanKindServer, f.attempts[0].TileRef, n)
	}
	f.left.Store(int64(n) + 1)
	if f.timer == nil {
		f.timer = time.AfterFunc(f.server.opts.ClaimWithin, f.expire)
	} else {
		f.timer.Reset(f.server.opts.ClaimWithin)
	}
	f.server.rooms.Claims.Submit(f.ctx, f.attempts, f.answered)
	f.landed()
}

// answer takes the answer to an attempt.
func (f *flight) answer(i int, a *claim.Answer) {
	if f.told[i].CompareAndSwap(false, true) {
		if a.Err != nil {
			f.tell(i, nil)
		} else {
			f.tell(i, &a.Verdict)
		}
		f.server.logUndecided(f.ctx, &f.attempts[i], &a.Verdict, a.Err)
	}
	f.batch.Answered(a.Verdict.Outcome, a.Err)
	f.landed()
}

// expire tells of those that are not decided in time that they may yet be.
func (f *flight) expire() {
	for i := range f.attempts {
		if f.told[i].CompareAndSwap(false, true) {
			v := cairn.Verdict{Outcome: cairn.Pending, RetryAfter: claim.RetryAfter}
			f.tell(i, &v)
			f.batch.Event(trail.EventLate)
			f.server.logUndecided(f.ctx, &f.attempts[i], &v, nil)
		}
	}
}

// outcomes are buffers for frames.
var outcomes = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

func (f *flight) tell(i int, v *cairn.Verdict) {
	tell(f.reply, f.codec, f.ids[i], v, &f.attempts[i])
}

func tell(reply func([]byte), codec broadcast.Codec, id string, v *cairn.Verdict, a *cairn.Attempt) {
	b := outcomes.Get().(*[]byte)
	*b = appendOutcomeFrame((*b)[:0], codec, id, v, a)
	reply(*b)
	outcomes.Put(b)
}

// landed counts one off, and lets the flight be used again after the last.
func (f *flight) landed() {
	if f.left.Add(-1) > 0 {
		return
	}
	if !f.timer.Stop() {
		return // expire runs, or did: it may still look
	}
	f.recycle()
}

func (f *flight) recycle() {
	for i := range f.attempts {
		f.told[i].Store(false)
	}
	clear(f.attempts)
	clear(f.ids)
	f.attempts, f.ids, f.reply, f.from, f.ctx, f.batch = f.attempts[:0], f.ids[:0], nil, nil, nil, nil
	flights.Put(f)
}

// Claims implements broadcast.Edge: the same limits and the same words as
// [Server.postClaims]. The hub bounds how many are in flight a connection.
func (e *edge) Claims(ctx context.Context, id cairn.PlayerID, name string, codec broadcast.Codec, cs []wire.ClaimFrame, reply func(frame []byte)) {
	var room [16]time.Duration
	waits := append(room[:0], make([]time.Duration, len(cs))...)
	e.s.admitAll(id, e.addr, e.counted, waits)
	traced := e.s.opts.Traces.Choose()
	f := newFlight(e, codec, reply, traced)
	var known cairn.TileRef // of a map that is known
	for i := range cs {
		c := &cs[i]
		a := cairn.Attempt{
			TileRef: cairn.TileRef{Hunt: c.Hunt, Tick: c.Map, Tile: c.Tile},
			Player:  id, Name: name, ClaimID: c.ClaimID, Answer: c.Answer, Token: c.Token,
		}
		if waits[i] > 0 {
			tell(reply, codec, c.ID, &cairn.Verdict{Outcome: cairn.Throttled, RetryAfter: waits[i]}, &a)
			continue
		}
		if a.Tick != known.Tick || a.Hunt != known.Hunt {
			if !e.s.rooms.Claims.Knows(a.TileRef) {
				// Its map may be waited for, which must keep nobody waiting.
				alone := newFlight(e, codec, reply, traced)
				alone.add(a, c.ID)
				go alone.send(ctx)
				continue
			}
			known = a.TileRef
		}
		f.add(a, c.ID)
	}
	if len(f.attempts) == 0 {
		f.recycle()
		return
	}
	f.send(ctx)
}
