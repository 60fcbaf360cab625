package trail

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
)

// The names of the spans (docs/tracing.md). Those of HTTP requests are their
// routes.
const (
	SpanLive   = "live claims"      // claims that came together on a WebSocket, at the gateway
	SpanAsk    = "ask owners"       // their way to the owners of their shards and back
	SpanOwner  = "owner claims"     // what of them came in one message, at an owner
	SpanDecide = "shard claims"     // what of them is one shard's: queue, decision, and the wait for the log
	SpanAppend = "log append"       // one record, of the claims of many
	SpanBoards = "ask leaderboard"  // a question about standings, at the gateway
	EventTaken = "taken from queue" // of SpanDecide: the loop has them
	EventAgain = "asked again"      // of SpanAsk: an owner had gone, or sent one elsewhere
	EventLate  = "told pending"     // of SpanLive: the client was told so, and no more
)

// The keys of the spans' attributes. None has a player, a name or a token.
const (
	KeyRequest = attribute.Key("cairn.request_id")
	KeyHunt    = attribute.Key("cairn.hunt")
	KeyMap     = attribute.Key("cairn.map") // the tick of the first attempt's
	KeyBatch   = attribute.Key("cairn.attempts")
	KeyLookup  = attribute.Key("cairn.lookup") // it asks who holds a tile
	KeyShard   = attribute.Key("cairn.shard")
	KeyQueued  = attribute.Key("cairn.queue_us")
	KeyDecided = attribute.Key("cairn.decide_us")
	KeyWaiting = attribute.Key("cairn.waiting") // attempts whose answer waits for the log
	KeyFailed  = attribute.Key("cairn.failed")  // attempts that were not decided
	KeyWhy     = attribute.Key("cairn.why")
	KeyOwner   = attribute.Key("cairn.owner")
	KeyLog     = attribute.Key("cairn.log")
	KeyClaims  = attribute.Key("cairn.append.claims")
	KeyBytes   = attribute.Key("cairn.append.bytes")
	KeyOffset  = attribute.Key("cairn.append.offset") // epoch-seq
)

// outcomeKeys are the keys of how many attempts ended so.
var outcomeKeys = func() (keys [cairn.Pending + 1]attribute.Key) {
	for o := range keys {
		keys[o] = attribute.Key("cairn.outcome." + cairn.Outcome(o).String())
	}
	return keys
}()

// An Edge says of what there are traces. Its zero value makes none.
type Edge struct {
	Tracer trace.Tracer // nil: no traces
	Ratio  float64      // of requests, and of batches of claims on a socket, that are traced: 0 to 1

	// Parents goes on with the trace that a request comes from (traceparent, W3C
	// Trace Context), and leaves to it whether it is kept. Only where nobody but
	// a proxy of the operator's can send that header.
	Parents bool
}

// Choose reports whether what begins here is to be traced.
func (e *Edge) Choose() bool {
	return e.Tracer != nil && (e.Ratio >= 1 || e.Ratio > 0 && rand.Float64() < e.Ratio)
}

// Begin begins the span of a request, if it is to be traced: otherwise the span
// is nil, and ctx as it was.
func (e *Edge) Begin(ctx context.Context, r *http.Request) (context.Context, trace.Span) {
	if e.Tracer == nil {
		return ctx, nil
	}
	from := trace.SpanContext{}
	if e.Parents && r.Header.Get("Traceparent") != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
		from = trace.SpanContextFromContext(ctx)
	}
	if from.IsValid() && !from.IsSampled() || !from.IsValid() && !e.Choose() {
		return ctx, nil
	}
	return e.Tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", r.Method), KeyRequest.String(ID(ctx))))
}

// A Tally counts how attempts ended. Its zero value is ready, and it may be used
// by many goroutines.
type Tally struct {
	mu       sync.Mutex
	outcomes [cairn.Pending + 1]int
	failed   int
}

// Add counts n attempts that ended so, or that failed if err is set.
func (t *Tally) Add(o cairn.Outcome, err error, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil || int(o) >= len(t.outcomes) {
		t.failed += n
	} else {
		t.outcomes[o] += n
	}
}

// Attributes returns the counts that are not 0.
func (t *Tally) Attributes() []attribute.KeyValue {
	t.mu.Lock()
	defer t.mu.Unlock()
	var kvs []attribute.KeyValue
	for o, n := range t.outcomes {
		if n > 0 {
			kvs = append(kvs, outcomeKeys[o].Int(n))
		}
	}
	if t.failed > 0 {
		kvs = append(kvs, KeyFailed.Int(t.failed))
	}
	return kvs
}

// A Batch is the span of attempts that are answered each on its own. It ends
// with the last of them, and says how they ended. A nil Batch is none: its
// methods do nothing.
type Batch struct {
	span  trace.Span
	left  atomic.Int64
	tally Tally
}

// Start starts the span of n attempts, the first of which is on ref, below that
// of ctx, and returns ctx with it.
func Start(ctx context.Context, t trace.Tracer, name string, kind trace.SpanKind, ref cairn.TileRef, n int) (context.Context, *Batch) {
	b := &Batch{}
	b.left.Store(int64(n))
	kvs := append(make([]attribute.KeyValue, 0, 4), KeyHunt.String(string(ref.Hunt)), KeyMap.Int64(int64(ref.Tick)), KeyBatch.Int(n))
	if id := ID(ctx); id != "" {
		kvs = append(kvs, KeyRequest.String(id))
	}
	ctx, b.span = t.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(kvs...))
	return ctx, b
}

// Answered takes the end of one attempt: its outcome, or err if that is set.
func (b *Batch) Answered(o cairn.Outcome, err error) {
	if b == nil {
		return
	}
	b.tally.Add(o, err, 1)
	if b.left.Add(-1) > 0 {
		return
	}
	b.span.SetAttributes(b.tally.Attributes()...)
	if b.tally.failed > 0 {
		b.span.SetStatus(codes.Error, "attempts were not decided")
	}
	b.span.End()
}

// Event notes that something happened.
func (b *Batch) Event(name string, kvs ...attribute.KeyValue) {
	if b != nil {
		b.span.AddEvent(name, trace.WithAttributes(kvs...))
	}
}
