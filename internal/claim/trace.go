package claim

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/trail"
)

// A chainSpan is the span of a chain of a batch that is traced: from when it is
// put to its shard until the last of its calls is answered. A nil one is none.
type chainSpan struct {
	span  trace.Span
	ctx   context.Context // with span
	put   time.Time
	tally trail.Tally

	// The calls that wait for grants, and the numbers of those; 0 while there are
	// none.
	won, gone   int
	first, last uint64
}

// errPending is what the spans of those say whose append may have failed.
var errPending = errors.New("it is not known whether the log has it")

// startChain starts the span of n calls that are for a shard.
func (b *batch) startChain(shard, n int) *chainSpan {
	s := &chainSpan{put: time.Now()}
	s.ctx, s.span = b.service.opts.Tracer.Start(b.traced, trail.SpanDecide, trace.WithTimestamp(s.put), trace.WithAttributes(
		trail.KeyShard.Int(shard), trail.KeyBatch.Int(n), trail.KeyLookup.Bool(b.lookup)))
	return s
}

// fail ends the span of calls of which none was decided.
func (s *chainSpan) fail(err error) {
	if s != nil {
		s.end(err)
	}
}

// end ends the span; err is why those that still wait were not decided.
func (s *chainSpan) end(err error) {
	s.tally.Add(cairn.Won, err, s.won)
	s.tally.Add(cairn.Gone, err, s.gone)
	s.span.SetAttributes(s.tally.Attributes()...)
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

// decideTraced is decide for a chain that is traced.
func (sh *shard) decideTraced(h chain) {
	s, taken := h.span, time.Now()
	s.span.AddEvent(trail.EventTaken, trace.WithTimestamp(taken))
	final, waiting := sh.tally.outcomes, len(sh.waiting)
	h.each(sh.decideOne)
	for o, n := range sh.tally.outcomes {
		s.tally.Add(cairn.Outcome(o), nil, int(n-final[o]))
	}
	for _, c := range sh.waiting[waiting:] {
		if c.answer.Verdict.Outcome == cairn.Won {
			s.won++
		} else {
			s.gone++
		}
		if s.first == 0 {
			s.first = c.grant
		}
		s.first, s.last = min(s.first, c.grant), max(s.last, c.grant)
	}
	s.span.SetAttributes(trail.KeyQueued.Int64(taken.Sub(s.put).Microseconds()), trail.KeyDecided.Int64(time.Since(taken).Microseconds()),
		trail.KeyWaiting.Int(s.won+s.gone))
	if s.last == 0 {
		s.end(nil)
	} else {
		sh.traced = append(sh.traced, s)
	}
}

// startAppend starts the span of a record of n claims, whose grants are numbered
// from first. It is below the span of the oldest chain that waits for it, and
// linked with those of all, as they are with it. It is nil if none does.
func (sh *shard) startAppend(first uint64, n, bytes int) trace.Span {
	var above context.Context
	var waiting []*chainSpan
	var links []trace.Link
	for _, s := range sh.traced {
		if s.first < first+uint64(n) && s.last >= first {
			waiting, links = append(waiting, s), append(links, trace.Link{SpanContext: s.span.SpanContext()})
			if above == nil {
				above = s.ctx
			}
		}
	}
	if above == nil {
		return nil
	}
	_, span := sh.service.opts.Tracer.Start(above, trail.SpanAppend, trace.WithSpanKind(trace.SpanKindClient), trace.WithLinks(links...),
		trace.WithAttributes(trail.KeyLog.String(string(sh.name)), trail.KeyShard.Int(sh.index), trail.KeyClaims.Int(n), trail.KeyBytes.Int(bytes)))
	for _, s := range waiting {
		s.span.AddLink(trace.Link{SpanContext: span.SpanContext()})
	}
	return span
}

// endAppend ends the span of a record that is in the log, or is not.
func endAppend(f *flight) {
	if f.err != nil {
		f.span.SetStatus(codes.Error, f.err.Error())
	} else {
		f.span.SetAttributes(trail.KeyOffset.String(f.off.String()))
	}
	f.span.End()
}

// endChains ends the spans of the chains that wait for no grant beyond last.
func (sh *shard) endChains(last uint64, err error) {
	rest := sh.traced[:0]
	for _, s := range sh.traced {
		if s.last > last {
			rest = append(rest, s)
		} else {
			s.end(err)
		}
	}
	clear(sh.traced[len(rest):])
	sh.traced = rest
}
