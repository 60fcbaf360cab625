package claim

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/trail"
)

// TestTraces: two traced calls whose claims share records of the log, and one
// that is not traced. Each trace has the shards' spans, each append is in the
// trace of one that waited for it, and linked with all that did.
func TestTraces(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
	defer p.Shutdown(context.Background())
	tracer := p.Tracer("test")
	w := newWorld(t)
	w.tracer = tracer
	w.start()
	m := w.emit(nowTick(), cairn.Tap)
	w.claim(w.attempt(m.Tick, 99, "zoe")) // the map is known, and nothing is traced
	if n := len(rec.Started()); n > 0 {
		t.Fatalf("%d spans of what nobody traces", n)
	}

	// All tiles of the map but one, by two players at once: half of what each
	// asks for is the other's, and waits for the other's append.
	var callers []trace.SpanContext
	done := make(chan struct{})
	for _, player := range []string{"ana", "bo"} {
		var as []cairn.Attempt
		for tile := range uint32(99) {
			as = append(as, *w.attempt(m.Tick, tile, player))
		}
		ctx, span := tracer.Start(t.Context(), player)
		callers = append(callers, span.SpanContext())
		go func() {
			defer func() { done <- struct{}{} }()
			out := make([]Answer, len(as))
			w.ClaimAll(ctx, as, out)
			span.End()
		}()
	}
	<-done
	<-done
	w.halt() // an answer may be there before its span has ended

	shards, appends := map[trace.TraceID]map[trace.SpanID]sdktrace.ReadOnlySpan{}, []sdktrace.ReadOnlySpan{}
	outcomes := int64(0)
	for _, s := range rec.Ended() {
		switch s.Name() {
		case trail.SpanDecide:
			id := s.SpanContext().TraceID()
			if shards[id] == nil {
				shards[id] = map[trace.SpanID]sdktrace.ReadOnlySpan{}
			}
			shards[id][s.SpanContext().SpanID()] = s
			outcomes += number(s, "cairn.outcome.won") + number(s, "cairn.outcome.gone")
			if s.Parent().SpanID() != callers[0].SpanID() && s.Parent().SpanID() != callers[1].SpanID() {
				t.Errorf("a shard's span is below %v, want one of %v", s.Parent(), callers)
			}
		case trail.SpanAppend:
			appends = append(appends, s)
		}
	}
	if n, want := len(rec.Ended()), len(rec.Started()); n != want {
		t.Errorf("%d spans ended of %d", n, want)
	}
	for _, c := range callers {
		if n := len(shards[c.TraceID()]); n != testShards {
			t.Errorf("a trace has %d spans of shards, want %d", n, testShards)
		}
	}
	if outcomes != 2*99 {
		t.Errorf("the spans have %d outcomes, want %d", outcomes, 2*99)
	}
	if len(appends) < testShards {
		t.Fatalf("%d appends, want %d or more", len(appends), testShards)
	}
	linked := 0
	for _, a := range appends {
		own := shards[a.SpanContext().TraceID()][a.Parent().SpanID()]
		if own == nil || len(a.Links()) == 0 || a.Links()[0].SpanContext.SpanID() != a.Parent().SpanID() {
			t.Fatalf("an append is below %v, with links %v: want one of a shard, and that linked", a.Parent(), a.Links())
		}
		if number(a, "cairn.append.bytes") == 0 || number(a, "cairn.append.claims") == 0 {
			t.Errorf("an append without size: %v", a.Attributes())
		}
		for _, l := range a.Links() {
			s := shards[l.SpanContext.TraceID()][l.SpanContext.SpanID()]
			if s == nil {
				t.Fatalf("an append is linked with %v, which is no shard's span", l.SpanContext)
			}
			if number(s, "cairn.shard") != number(a, "cairn.shard") {
				t.Errorf("an append of shard %d is linked with a span of shard %d", number(a, "cairn.shard"), number(s, "cairn.shard"))
			}
			for _, back := range s.Links() {
				if back.SpanContext.SpanID() == a.SpanContext().SpanID() {
					linked++
				}
			}
		}
	}
	if linked < testShards { // whoever came first waited, in every shard
		t.Errorf("%d links lead back from shards' spans to appends, want %d or more", linked, testShards)
	}
}

// TestAppendLinks: an append is linked with those who wait for a grant that it
// has, however many they are, and with no others.
func TestAppendLinks(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
	defer p.Shutdown(context.Background())
	sh := newShard(New(nil, nil, Options{Shards: 1, Tracer: p.Tracer("test")}), 0)
	for _, waits := range [][2]uint64{{1, 2}, {3, 9}, {5, 5}, {7, 8}} {
		s := &chainSpan{first: waits[0], last: waits[1], won: 1}
		s.ctx, s.span = sh.service.opts.Tracer.Start(t.Context(), trail.SpanDecide)
		sh.traced = append(sh.traced, s)
	}
	if span := sh.startAppend(10, 2, 100); span != nil {
		t.Error("an append for which nobody waits has a span")
	}
	span := sh.startAppend(3, 4, 100) // 3 to 6
	endAppend(&flight{span: span, off: eventlog.Offset{Epoch: 2, Seq: 7}})
	got := rec.Ended()[0]
	want := sh.traced[1:3]
	if got.Parent().SpanID() != want[0].span.SpanContext().SpanID() || len(got.Links()) != len(want) {
		t.Fatalf("it is below %v with %d links, want the oldest that waits, and %d", got.Parent(), len(got.Links()), len(want))
	}
	for i, s := range want {
		if got.Links()[i].SpanContext.SpanID() != s.span.SpanContext().SpanID() {
			t.Errorf("link %d is with %v, want %v", i, got.Links()[i].SpanContext, s.span.SpanContext())
		}
	}
	sh.endChains(6, nil)
	if len(sh.traced) != 2 || sh.traced[0].last != 9 {
		t.Errorf("%d still wait, want those for grants beyond 6", len(sh.traced))
	}
	sh.endChains(math.MaxUint64, errPending)
	ended := rec.Ended()
	if last := ended[len(ended)-1]; len(ended) != 5 || last.Status().Description == "" || number(last, "cairn.failed") != 1 || number(last, "cairn.outcome.won") != 0 {
		t.Errorf("%d ended; the last is %v with %v, want one that was not decided", len(ended), last.Status(), last.Attributes())
	}
}

// number returns an attribute of a span, 0 if it has none.
func number(s sdktrace.ReadOnlySpan, key string) int64 {
	for _, kv := range s.Attributes() {
		if string(kv.Key) == key {
			return kv.Value.AsInt64()
		}
	}
	return 0
}

// dropping is an exporter that takes all and keeps nothing.
type dropping struct{}

func (dropping) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (dropping) Shutdown(context.Context) error                             { return nil }

// BenchmarkTraces measures what traces cost a whole Service: batches of 16 on a
// hot tile, 64 of them in flight, of which a share is traced, spans made,
// queued and exported to nowhere.
func BenchmarkTraces(b *testing.B) {
	const size = 16
	for _, ratio := range []float64{-1, 0, 0.01, 1} { // -1: without a tracer
		b.Run(fmt.Sprint("ratio=", ratio), func(b *testing.B) {
			p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(dropping{}))
			defer p.Shutdown(context.Background())
			edge := trail.Edge{Ratio: ratio}
			w := newWorld(b)
			if ratio >= 0 {
				edge.Tracer = p.Tracer("bench")
				w.tracer = edge.Tracer
			}
			w.start()
			m := w.emit(nowTick(), cairn.Tap)
			w.claim(w.attempt(m.Tick, 0, "ana"))
			var as []cairn.Attempt
			for i := range size {
				as = append(as, *w.attempt(m.Tick, 0, fmt.Sprint("player-", i)))
			}
			flight := make(chan struct{}, 64)
			var wg sync.WaitGroup
			b.ReportAllocs()
			for b.Loop() {
				flight <- struct{}{}
				wg.Add(1)
				ctx, batch := b.Context(), (*trail.Batch)(nil)
				if edge.Choose() {
					ctx, batch = trail.Start(ctx, edge.Tracer, trail.SpanLive, trace.SpanKindServer, as[0].TileRef, size)
				}
				var left atomic.Int64
				left.Store(size)
				w.Submit(ctx, as, func(_ int, a *Answer) {
					batch.Answered(a.Verdict.Outcome, a.Err)
					if left.Add(-1) == 0 {
						<-flight
						wg.Done()
					}
				})
			}
			wg.Wait()
			b.ReportMetric(size*float64(b.N)/b.Elapsed().Seconds(), "attempts/s")
		})
	}
}
