package fleet

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/fleet/fleetpb"
	"github.com/veltrix/cairn/internal/trail"
)

// nobody is the origin that says that there is none, behind one that there is.
var nobody = &fleetpb.Origin{}

// A sender says on whose behalf attempts are sent: to their owners, and in a
// trace.
type sender struct {
	origin *fleetpb.Origin // nil if it is nobody's; shared, and never changed
	batch  *trail.Batch    // nil if they are not traced
}

// sender returns on whose behalf n attempts are sent, the first of which is on
// ref, and ctx with their span, which ends when all are answered.
func (c *Claims) sender(ctx context.Context, ref cairn.TileRef, n int) (context.Context, sender) {
	var by sender
	id := trail.ID(ctx)
	if id != "" {
		by.origin = &fleetpb.Origin{RequestId: id}
	}
	if c.opts.Tracer != nil && trail.Sampled(ctx) {
		ctx, by.batch = trail.Start(ctx, c.opts.Tracer, trail.SpanAsk, trace.SpanKindClient, ref, n)
		sc := trace.SpanContextFromContext(ctx)
		in, span := sc.TraceID(), sc.SpanID()
		by.origin = &fleetpb.Origin{RequestId: id, TraceId: in[:], SpanId: span[:]}
	}
	return ctx, by
}

// again notes that an attempt is sent again: to an owner, if one was named.
func (by sender) again(owner string) {
	if by.batch != nil {
		by.batch.Event(trail.EventAgain, trail.KeyOwner.String(owner))
	}
}

// traced returns an origin if it is that of a trace, of which an owner is to
// make spans.
func (o *Owner) traced(p *fleetpb.Origin) *fleetpb.Origin {
	if o.opts.Tracer != nil && len(p.GetTraceId()) == len(trace.TraceID{}) && len(p.SpanId) == len(trace.SpanID{}) {
		return p
	}
	return nil
}

// join begins the span of n attempts, the first of which is on ref, in a trace
// that a gateway began. Without one it returns ctx and nil.
func (o *Owner) join(ctx context.Context, traced *fleetpb.Origin, ref cairn.TileRef, n int) (context.Context, *trail.Batch) {
	if traced == nil {
		return ctx, nil
	}
	ctx = trace.ContextWithRemoteSpanContext(trail.With(ctx, requestID(traced.RequestId)), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(traced.TraceId), SpanID: trace.SpanID(traced.SpanId), TraceFlags: trace.FlagsSampled, Remote: true,
	}))
	return trail.Start(ctx, o.opts.Tracer, trail.SpanOwner, trace.SpanKindServer, ref, n)
}

// A requestID is an id that came with an attempt.
type requestID string

// String implements fmt.Stringer.
func (id requestID) String() string { return string(id) }
