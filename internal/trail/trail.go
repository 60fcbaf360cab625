// Package trail is what can be followed through a system of many processes:
// the id of the request or the connection on whose behalf something is done,
// in contexts and in log lines, and the spans of a trace (OpenTelemetry's API
// alone: who makes and exports spans is wired elsewhere, docs/tracing.md).
//
// There are no spans unless a room is given a tracer, and of those that it
// could make only those of requests that the edge chose ([Edge]).
package trail

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
)

type idKey struct{}

// A doing is a context of what is done on somebody's behalf.
type doing struct {
	context.Context
	of fmt.Stringer
}

func (d *doing) Value(key any) any {
	if key == (idKey{}) {
		return d.of
	}
	return d.Context.Value(key)
}

// With returns a context of what is done for the request or the connection
// whose id is of.String(), which is asked for only where the id is needed, and
// may be at any time and by any goroutine.
func With(ctx context.Context, of fmt.Stringer) context.Context { return &doing{ctx, of} }

// ID returns the id of the request or the connection that ctx works for, or ""
// if it does not for any.
func ID(ctx context.Context) string {
	if of, ok := ctx.Value(idKey{}).(fmt.Stringer); ok {
		return of.String()
	}
	return ""
}

// Sampled reports whether ctx is in a trace of which spans are kept.
func Sampled(ctx context.Context) bool { return trace.SpanContextFromContext(ctx).IsSampled() }

// Logger returns l, whose lines say for which request they are if their context
// does: request_id, and trace_id and span_id if it is traced.
func Logger(l *slog.Logger) *slog.Logger {
	if _, ok := l.Handler().(*handler); ok {
		return l
	}
	return slog.New(&handler{l.Handler()})
}

// A handler adds to each record what its context has to be followed by.
type handler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	id, sc := ID(ctx), trace.SpanContextFromContext(ctx)
	if id != "" || sc.IsSampled() {
		r = r.Clone()
	}
	if id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	if sc.IsSampled() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler { return &handler{h.Handler.WithGroup(name)} }

// fewMax is how many lines a second a Few lets through.
const fewMax = 10

// A Few lets the first ten lines of a second into a log, and counts the others:
// what one request in a million says now and then, all say when a log fails
// over. Its zero value is ready, and it may be used by many goroutines.
type Few struct {
	mu      sync.Mutex
	second  int64 // since 1970
	n       int   // lines of it
	leftOut int64 // since the last line
}

// Warn logs a warning, unless there were enough of them. One that comes after
// others were left out says how many: left_out.
func (f *Few) Warn(ctx context.Context, l *slog.Logger, msg string, attrs ...slog.Attr) {
	if !l.Enabled(ctx, slog.LevelWarn) {
		return
	}
	leftOut, ok := f.take(time.Now().Unix())
	if !ok {
		return
	}
	if leftOut > 0 {
		attrs = append(attrs, slog.Int64("left_out", leftOut))
	}
	l.LogAttrs(ctx, slog.LevelWarn, msg, attrs...)
}

// take takes a line of a second, if there is one left.
func (f *Few) take(second int64) (leftOut int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.second != second {
		f.second, f.n = second, 0
	}
	if f.n >= fewMax {
		f.leftOut++
		return 0, false
	}
	f.n++
	leftOut, f.leftOut = f.leftOut, 0
	return leftOut, true
}
