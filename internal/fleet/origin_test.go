package fleet

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/fleet/fleetpb"
	"github.com/veltrix/cairn/internal/trail"
	"github.com/veltrix/cairn/internal/wire"
)

// recording returns a tracer that keeps what it is told to.
func recording(t *testing.T) (trace.Tracer, *tracetest.SpanRecorder) {
	rec := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
	t.Cleanup(func() { must(t, p.Shutdown(context.Background())) })
	return p.Tracer("test"), rec
}

// named returns the spans of a name, once there are n that have ended.
func named(t *testing.T, rec *tracetest.SpanRecorder, name string, n int) (spans []sdktrace.ReadOnlySpan) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		spans = slices.DeleteFunc(rec.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() != name })
		if len(spans) >= n {
			return spans
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d spans %q have ended, want %d", len(spans), name, n)
		}
	}
}

// TestTraceOverTheHop: attempts that are submitted together have one span at the
// gateway and below it one at the owner for each message; those of others that
// came between them have none. An owner or a gateway that makes no spans, as one
// of a release before, changes no answer.
func TestTraceOverTheHop(t *testing.T) {
	for _, c := range []struct {
		what           string
		gateway, owner bool
	}{{"both trace", true, true}, {"only the gateway traces", true, false}, {"only the owner traces", false, true}} {
		t.Run(c.what, func(t *testing.T) {
			tracer, rec := recording(t)
			var atGateway, atOwner trace.Tracer
			if c.gateway {
				atGateway = tracer
			}
			if c.owner {
				atOwner = tracer
			}
			claims, tick := benchFleet(t, atGateway, atOwner, nil)
			submit := func(ctx context.Context, player string, first, n int) *sync.WaitGroup {
				var wg sync.WaitGroup
				wg.Add(n)
				as := make([]cairn.Attempt, n)
				for i := range as {
					as[i] = cairn.Attempt{TileRef: cairn.TileRef{Hunt: simHunt, Tick: tick, Tile: uint32(first + i)}, Player: cairn.PlayerID(player), Name: player}
				}
				claims.Submit(ctx, as, func(_ int, a *claim.Answer) {
					if a.Err != nil || a.Verdict.Outcome != cairn.Won {
						t.Errorf("%s: got %v, %v; want won", player, a.Verdict.Outcome, a.Err)
					}
					wg.Done()
				})
				return &wg
			}
			ctx, root := tracer.Start(trail.With(t.Context(), requestID("r-1")), "root")
			for _, wg := range []*sync.WaitGroup{submit(t.Context(), "bo", 0, 4), submit(ctx, "ana", 4, 8), submit(t.Context(), "cy", 12, 4)} {
				wg.Wait()
			}
			root.End()
			if !c.gateway || !c.owner {
				if spans := rec.Ended(); c.gateway && len(spans) != 2 || !c.gateway && len(spans) != 1 {
					t.Errorf("got %d spans", len(spans))
				}
				return
			}
			hop := named(t, rec, trail.SpanAsk, 1)
			if len(hop) != 1 || hop[0].Parent().SpanID() != root.SpanContext().SpanID() || hop[0].SpanKind() != trace.SpanKindClient {
				t.Fatalf("got %v, want one span below the root", hop)
			}
			won := int64(0) // an attempt that is asked again is in another span as well
			for _, s := range named(t, rec, trail.SpanOwner, 1) {
				if s.Parent().SpanID() != hop[0].SpanContext().SpanID() || !s.Parent().IsRemote() || s.SpanContext().TraceID() != root.SpanContext().TraceID() {
					t.Errorf("an owner's span is below %v, want the hop", s.Parent())
				}
				for _, kv := range s.Attributes() {
					switch kv.Key {
					case "cairn.outcome.won":
						won += kv.Value.AsInt64()
					case trail.KeyRequest:
						if kv.Value.AsString() != "r-1" {
							t.Errorf("the owner has request %q, want r-1", kv.Value.AsString())
						}
					}
				}
			}
			if won < 8 {
				t.Errorf("the owner's spans have %d attempts that won, want 8", won)
			}
		})
	}
}

// TestOriginOfRuns: an origin goes over the wire once for attempts that follow
// each other, and nobody's behind somebody's is told apart.
func TestOriginOfRuns(t *testing.T) {
	a, b := &fleetpb.Origin{RequestId: "a"}, &fleetpb.Origin{RequestId: "b"}
	l := &link{wake: make(chan struct{}, 1), flights: map[uint64]*flight{}, sent: map[uint64]bool{}}
	for _, o := range []*fleetpb.Origin{nil, a, a, b, nil, nil, a} {
		l.send(&flight{attempt: &cairn.Attempt{}, origin: o})
	}
	var got []string
	for _, p := range l.take() {
		switch {
		case p.Origin == nil:
			got = append(got, "-")
		default:
			got = append(got, "'"+p.Origin.RequestId+"'")
		}
	}
	if want := "- 'a' - 'b' '' - 'a'"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, " "), want)
	}
}

// TestUndecidedLine: what an owner could not decide is in its log with the id
// of the request that asked.
func TestUndecidedLine(t *testing.T) {
	var out bytes.Buffer
	s := &session{owner: &Owner{opts: OwnerOptions{Log: slog.New(slog.NewTextHandler(&out, nil))}}, out: newOutbox[*fleetpb.Answer]()}
	p := &fleetpb.Attempt{Id: 1, Hunt: "oslo", Tick: 7, Tile: 3, Player: "secret-ana", Name: "secret-ana", Token: "secret", Origin: &fleetpb.Origin{RequestId: "r-1"}}
	for _, err := range []error{nil, claim.ErrUnavailable, errors.New("hm")} {
		out.Reset()
		s.tell(p, &cairn.Verdict{Outcome: cairn.Pending}, err, nil)
		line := out.String()
		if !strings.Contains(line, "request_id=r-1") || !strings.Contains(line, "hunt=oslo map=7 tile=3") || strings.Contains(line, "secret") {
			t.Errorf("%v: got %q", err, line)
		}
	}
	out.Reset()
	s.tell(p, &cairn.Verdict{Outcome: cairn.Gone}, nil, nil)
	if out.Len() > 0 {
		t.Errorf("of what was decided: got %q, want nothing", out.String())
	}
}

// TestBoardsSpan: a question about standings that nobody answers says so in its
// span; one that is not traced has none.
func TestBoardsSpan(t *testing.T) {
	tracer, rec := recording(t)
	b := NewBoards(&Local{}, BoardsOptions{Tracer: tracer})
	ctx, root := tracer.Start(t.Context(), "root")
	defer root.End()
	for _, ctx := range []context.Context{t.Context(), ctx} {
		if _, _, err := b.Standings(ctx, wire.BoardKey{Hunt: simHunt}, 10); err == nil {
			t.Error("somebody answered")
		}
	}
	spans := rec.Ended()
	if len(spans) != 1 || spans[0].Name() != trail.SpanBoards || spans[0].Parent().SpanID() != root.SpanContext().SpanID() || spans[0].Status().Code != codes.Error {
		t.Errorf("got %v, want one span below the root, that failed", spans)
	}
}
