package fleet

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/fleet/fleetpb"
	"github.com/veltrix/cairn/internal/fleet/fleetpb/fleetpbconnect"
)

const (
	// windowMax bounds the attempts of one stream that have no answer yet. A
	// gateway that has used it up answers 503 by itself.
	windowMax = 8192

	// batchMax bounds the attempts, and the answers, in one message.
	batchMax = 512

	// messageBytesMax bounds a message: batchMax attempts of the greatest size
	// that the edge lets in are below it.
	messageBytesMax = 8 << 20

	// withinMax bounds how long an attempt may wait here for its decision.
	withinMax = time.Minute
)

func (o *Owner) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(fleetpbconnect.NewOwnerHandler((*rpc)(o),
		connect.WithCompression("gzip", nil, nil), connect.WithReadMaxBytes(messageBytesMax)))
	return mux
}

// Server returns what serves h on the listener of a fleet: HTTP/2 without TLS.
// It ends connections whose other end has vanished.
func Server(h http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: protocols, ReadHeaderTimeout: 5 * time.Second,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
	}
}

// An rpc is an Owner as others call it.
type rpc Owner

// Release implements [fleetpbconnect.OwnerHandler].
func (r *rpc) Release(ctx context.Context, req *fleetpb.ReleaseRequest) (*fleetpb.ReleaseResponse, error) {
	o := (*Owner)(r)
	if int64(req.Shard) >= int64(o.service.Shards()) {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("no such shard"))
	}
	if err := o.give(ctx, int(req.Shard), req.To); err != nil {
		return nil, connect.NewError(connect.CodeDeadlineExceeded, err)
	}
	return &fleetpb.ReleaseResponse{}, nil
}

// Decide implements [fleetpbconnect.OwnerHandler].
func (r *rpc) Decide(ctx context.Context, stream *connect.BidiStream[fleetpb.Attempts, fleetpb.Answers]) error {
	o := (*Owner)(r)
	o.metrics.streams.Inc()
	defer o.metrics.streams.Dec()
	// When the stream ends nobody hears the answers any more: what has not
	// been granted by then need not be.
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	out := newOutbox[*fleetpb.Answer]()
	tasks.Go(func() {
		defer cancel()
		if stream.Send(&fleetpb.Answers{}) != nil { // the greeting
			return
		}
		for {
			answers := out.take(ctx, batchMax)
			if answers == nil || stream.Send(&fleetpb.Answers{Answers: answers}) != nil {
				return
			}
		}
	})
	var inFlight atomic.Int64
	for {
		in, err := stream.Receive()
		if err != nil || ctx.Err() != nil {
			return nil // gateways end streams when they like
		}
		o.metrics.batch.Observe(float64(len(in.Attempts)))
		for _, a := range in.Attempts {
			if inFlight.Add(1) > windowMax {
				inFlight.Add(-1)
				out.put(&fleetpb.Answer{Id: a.Id, Refusal: &fleetpb.Refusal{Reason: fleetpb.Reason_REASON_FULL}})
				continue
			}
			// A goroutine each: one whose shard's log stalls, or whose map has
			// yet to come, must not keep the others waiting.
			tasks.Go(func() {
				out.put(o.answer(ctx, a))
				inFlight.Add(-1)
			})
		}
	}
}

// answer decides one attempt.
func (o *Owner) answer(ctx context.Context, p *fleetpb.Attempt) *fleetpb.Answer {
	within := min(time.Duration(p.WithinMs)*time.Millisecond, withinMax)
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	a := attemptOf(p)
	v, err := o.decide(ctx, &a, p.Lookup)
	switch {
	case err == nil:
		return answerOf(p.Id, &v)
	case !errors.Is(err, claim.ErrNotOwner):
		return &fleetpb.Answer{Id: p.Id, Refusal: &fleetpb.Refusal{Reason: fleetpb.Reason_REASON_UNAVAILABLE}}
	}
	refusal := &fleetpb.Refusal{Reason: fleetpb.Reason_REASON_NOT_OWNER}
	if shard, ok := o.service.ShardOf(a.TileRef); ok {
		refusal.Shard, refusal.Owner = uint32(shard), o.ownerOf(shard)
	}
	return &fleetpb.Answer{Id: p.Id, Refusal: refusal}
}

// An outbox gathers what waits to be sent, so that a message takes all of it.
type outbox[T any] struct {
	mu    sync.Mutex
	items []T
	wake  chan struct{} // capacity 1
}

func newOutbox[T any]() *outbox[T] { return &outbox[T]{wake: make(chan struct{}, 1)} }

func (o *outbox[T]) put(item T) {
	o.mu.Lock()
	o.items = append(o.items, item)
	o.mu.Unlock()
	wake(o.wake)
}

// take waits until there is something, and takes up to most of it. It returns
// nil when ctx ends.
func (o *outbox[T]) take(ctx context.Context, most int) []T {
	for {
		o.mu.Lock()
		n := min(most, len(o.items))
		items := o.items[:n:n]
		if o.items = o.items[n:]; len(o.items) > 0 {
			wake(o.wake)
		}
		o.mu.Unlock()
		if n > 0 {
			return items
		}
		select {
		case <-o.wake:
		case <-ctx.Done():
			return nil
		}
	}
}
