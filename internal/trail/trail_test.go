package trail

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
)

type name string

func (n name) String() string { return string(n) }

// recording returns a tracer that keeps what it is told to.
func recording(t *testing.T) (trace.Tracer, *tracetest.SpanRecorder) {
	rec := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
	t.Cleanup(func() {
		if err := p.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p.Tracer("test"), rec
}

// TestLogger: a line says for which request it is, in a group of attributes and
// beside those of the logger too, and once only.
func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log := Logger(Logger(slog.New(slog.NewJSONHandler(&out, nil)).With("process", "g1")))
	line := func(ctx context.Context) map[string]any {
		t.Helper()
		out.Reset()
		log.With("more", 1).WarnContext(ctx, "hm", "a", "b")
		if n := bytes.Count(out.Bytes(), []byte("request_id")); n > 1 {
			t.Errorf("request_id is there %d times: %s", n, out.Bytes())
		}
		got := map[string]any{}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := line(t.Context()); got["request_id"] != nil || got["trace_id"] != nil || got["process"] != "g1" {
		t.Errorf("without a request: got %v", got)
	}
	ctx := With(t.Context(), name("r-1"))
	if got := line(ctx); got["request_id"] != "r-1" || got["a"] != "b" || got["trace_id"] != nil {
		t.Errorf("with a request: got %v", got)
	}
	tracer, _ := recording(t)
	ctx, span := tracer.Start(ctx, "x")
	defer span.End()
	if got := line(ctx); got["trace_id"] != span.SpanContext().TraceID().String() || got["span_id"] != span.SpanContext().SpanID().String() {
		t.Errorf("traced: got %v, want %v", got, span.SpanContext())
	}
}

// TestFew: ten lines of a second come through, and the next says how many did
// not.
func TestFew(t *testing.T) {
	var f Few
	for i := range fewMax + 5 {
		if left, ok := f.take(7); ok != (i < fewMax) || left != 0 {
			t.Errorf("line %d: got %v, %d left out", i, ok, left)
		}
	}
	if left, ok := f.take(8); !ok || left != 5 {
		t.Errorf("a second later: got %v, %d left out; want 5", ok, left)
	}
}

// TestEdge: what is traced is the edge's to say, but for parents that it was
// told to trust.
func TestEdge(t *testing.T) {
	const sampled, not = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	tracer, _ := recording(t)
	for _, c := range []struct {
		what         string
		edge         Edge
		parent       string
		traced, same bool
	}{
		{"off", Edge{}, sampled, false, false},
		{"chosen", Edge{Tracer: tracer, Ratio: 1}, "", true, false},
		{"not chosen", Edge{Tracer: tracer}, "", false, false},
		{"a stranger's parent", Edge{Tracer: tracer}, sampled, false, false},
		{"a stranger's parent, chosen", Edge{Tracer: tracer, Ratio: 1}, sampled, true, false},
		{"a parent that is kept", Edge{Tracer: tracer, Parents: true}, sampled, true, true},
		{"a parent that is not", Edge{Tracer: tracer, Ratio: 1, Parents: true}, not, false, false},
		{"a parent that is none", Edge{Tracer: tracer, Ratio: 1, Parents: true}, "00-0", true, false},
	} {
		r := httptest.NewRequest("GET", "/v1/hunts", nil)
		if c.parent != "" {
			r.Header.Set("traceparent", c.parent)
		}
		ctx, span := c.edge.Begin(t.Context(), r)
		if (span != nil) != c.traced || Sampled(ctx) != c.traced {
			t.Errorf("%s: traced %v and %v, want %v", c.what, span != nil, Sampled(ctx), c.traced)
		}
		if span != nil {
			if same := span.SpanContext().TraceID().String() == sampled[3:35]; same != c.same {
				t.Errorf("%s: goes on with the parent's trace: %v, want %v", c.what, same, c.same)
			}
			span.End()
		}
	}
}

// TestBatch: a span of attempts ends with the last of them, and counts how they
// ended. None of it says who they were of.
func TestBatch(t *testing.T) {
	tracer, rec := recording(t)
	ref := cairn.TileRef{Hunt: "oslo", Tick: 7, Tile: 3}
	ctx, b := Start(With(t.Context(), name("r-1")), tracer, SpanLive, trace.SpanKindServer, ref, 3)
	if !Sampled(ctx) {
		t.Error("its context is not traced")
	}
	b.Answered(cairn.Won, nil)
	b.Answered(cairn.Gone, nil)
	if n := len(rec.Ended()); n > 0 {
		t.Fatal("it ended before the last")
	}
	b.Answered(0, errors.New("no"))
	ended := rec.Ended()
	if len(ended) != 1 || ended[0].Status().Description == "" {
		t.Fatalf("got %v, want one span that says that some were not decided", ended)
	}
	got := map[string]any{}
	for _, kv := range ended[0].Attributes() {
		got[string(kv.Key)] = kv.Value.AsInterface()
	}
	for k, want := range map[string]any{
		"cairn.hunt": "oslo", "cairn.map": int64(7), "cairn.attempts": int64(3), "cairn.request_id": "r-1",
		"cairn.outcome.won": int64(1), "cairn.outcome.gone": int64(1), "cairn.failed": int64(1),
	} {
		if got[k] != want {
			t.Errorf("%s: got %v, want %v", k, got[k], want)
		}
	}
	if len(got) != 7 {
		t.Errorf("got %v, want 7 attributes", got)
	}
	var none *Batch
	none.Answered(cairn.Won, nil)
	none.Event("nothing")
}
