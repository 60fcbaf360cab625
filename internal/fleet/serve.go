package fleet

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/fleet/fleetpb"
	"github.com/veltrix/cairn/internal/fleet/fleetpb/fleetpbconnect"
	"github.com/veltrix/cairn/internal/trail"
)

const (
	// windowMax bounds the attempts of one stream that have no answer yet. A
	// gateway that has used it up answers 503 by itself. It is large, so that
	// shards whose log stalls for a while, in a failover of one of many, do not
	// use up what is there for all.
	windowMax = 1 << 16

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
	if err := o.give(ctx, int(req.Shard), Member{Name: req.To, Addr: req.Addr, Life: req.Life}); err != nil {
		return nil, connect.NewError(connect.CodeDeadlineExceeded, err)
	}
	return &fleetpb.ReleaseResponse{}, nil
}

// Decide implements [fleetpbconnect.OwnerHandler].
func (r *rpc) Decide(ctx context.Context, stream *connect.BidiStream[fleetpb.Attempts, fleetpb.Answers]) error {
	o := (*Owner)(r)
	o.metrics.streams.Inc()
	defer o.metrics.streams.Dec()
	ctx, cancel := context.WithCancel(ctx)
	s := &session{owner: o, out: newOutbox[*fleetpb.Answer](), doubts: newOutbox[doubt]()}
	defer s.tasks.Wait()
	defer cancel()
	s.tasks.Go(func() {
		defer cancel()
		if stream.Send(&fleetpb.Answers{}) != nil { // the greeting
			return
		}
		for {
			answers := s.out.take(ctx, batchMax)
			if answers == nil || stream.Send(&fleetpb.Answers{Answers: answers}) != nil {
				return
			}
		}
	})
	s.tasks.Go(func() { s.verify(ctx) })
	for {
		in, err := stream.Receive()
		if err != nil || ctx.Err() != nil {
			return nil // gateways end streams when they like
		}
		o.metrics.batch.Observe(float64(len(in.Attempts)))
		s.decide(ctx, in.Attempts)
	}
}

// A session is one stream of attempts. When it ends nobody hears the answers
// any more, and they are dropped.
type session struct {
	owner    *Owner
	tasks    sync.WaitGroup
	inFlight atomic.Int64
	out      *outbox[*fleetpb.Answer]
	doubts   *outbox[doubt]
}

// A doubt is an answer that is true only if this process owns the shard.
type doubt struct {
	attempt *fleetpb.Attempt
	shard   int
	verdict cairn.Verdict
	batch   *trail.Batch
}

// decide decides what came in one message. It does not wait.
func (s *session) decide(ctx context.Context, in []*fleetpb.Attempt) {
	as := make([]cairn.Attempt, 0, len(in))
	of := make([]*fleetpb.Attempt, 0, len(in))
	var origin, traced *fleetpb.Origin // of the attempt before; of those in as
	for _, p := range in {
		if p.Origin == nil {
			p.Origin = origin
		}
		origin = p.Origin
		if s.inFlight.Add(1) > 2*windowMax { // more than a gateway has: it has given some up
			s.answer(p, &fleetpb.Answer{Refusal: &fleetpb.Refusal{Reason: fleetpb.Reason_REASON_FULL}})
			continue
		}
		a := attemptOf(p)
		if _, known := s.owner.service.ShardOf(a.TileRef); p.Lookup || !known {
			// One whose map has yet to come must not keep the others waiting.
			s.tasks.Go(func() { s.alone(ctx, p, &a) })
			continue
		}
		if t := s.owner.traced(origin); t != traced { // a trace's are a batch of their own, in their turn
			s.submit(ctx, traced, as, of)
			as, of, traced = as[len(as):], of[len(of):], t
		}
		as, of = append(as, a), append(of, p)
	}
	s.submit(ctx, traced, as, of)
}

// submit has the attempts as, which came as of, decided. They are in one trace,
// if they are in any.
func (s *session) submit(ctx context.Context, traced *fleetpb.Origin, as []cairn.Attempt, of []*fleetpb.Attempt) {
	if len(as) == 0 {
		return
	}
	ctx, batch := s.owner.join(ctx, traced, as[0].TileRef, len(as))
	s.owner.service.Submit(ctx, as, func(i int, a *claim.Answer) {
		v, err := &a.Verdict, a.Err
		if err == nil && !s.owner.sure(v) {
			if shard, ok := s.owner.service.ShardOf(as[i].TileRef); ok && !s.owner.trusts(shard) {
				s.doubts.put(doubt{of[i], shard, *v, batch})
				return
			}
		}
		s.tell(of[i], v, err, batch)
	})
}

// alone decides one attempt, and waits for it.
func (s *session) alone(ctx context.Context, p *fleetpb.Attempt, a *cairn.Attempt) {
	ctx, cancel := context.WithTimeout(ctx, min(time.Duration(p.WithinMs)*time.Millisecond, withinMax))
	defer cancel()
	ctx, batch := s.owner.join(ctx, s.owner.traced(p.Origin), a.TileRef, 1)
	v, err := s.owner.decide(ctx, a, p.Lookup)
	s.tell(p, &v, err, batch)
}

// verify settles doubts until ctx ends, those of a shard together.
func (s *session) verify(ctx context.Context) {
	for {
		doubts := s.doubts.take(ctx, batchMax)
		if doubts == nil {
			return
		}
		byShard := map[int][]doubt{}
		for _, d := range doubts {
			byShard[d.shard] = append(byShard[d.shard], d)
		}
		for shard, ds := range byShard {
			s.tasks.Go(func() {
				err := s.owner.confirm(ctx, shard)
				for i := range ds {
					s.tell(ds[i].attempt, &ds[i].verdict, err, ds[i].batch)
				}
			})
		}
	}
}

// tell answers an attempt of a batch.
func (s *session) tell(p *fleetpb.Attempt, v *cairn.Verdict, err error, batch *trail.Batch) {
	batch.Answered(v.Outcome, err)
	switch {
	case err == nil:
		if v.Outcome == cairn.Pending {
			s.owner.warn(p, errPending)
		}
		s.answer(p, answerOf(p.Id, v))
	case errors.Is(err, claim.ErrNotOwner):
		refusal := &fleetpb.Refusal{Reason: fleetpb.Reason_REASON_NOT_OWNER}
		if shard, ok := s.owner.service.ShardOf(attemptOf(p).TileRef); ok {
			to := s.owner.ownerOf(shard)
			refusal.Shard, refusal.Owner, refusal.Addr, refusal.Life = uint32(shard), to.Name, to.Addr, to.Life
		}
		s.answer(p, &fleetpb.Answer{Refusal: refusal})
	default:
		s.owner.warn(p, err)
		s.answer(p, &fleetpb.Answer{Refusal: &fleetpb.Refusal{Reason: fleetpb.Reason_REASON_UNAVAILABLE}})
	}
}

var errPending = errors.New("it is not known whether the log has it")

// warn logs that an attempt was not decided. The gateway's own line of it has
// the same request_id.
func (o *Owner) warn(p *fleetpb.Attempt, err error) {
	o.undecided.Warn(context.Background(), o.opts.Log, "an attempt was not decided", slog.String("request_id", p.Origin.GetRequestId()),
		slog.String("hunt", p.Hunt), slog.Int64("map", p.Tick), slog.Uint64("tile", uint64(p.Tile)), slog.Any("err", err))
}

func (s *session) answer(p *fleetpb.Attempt, a *fleetpb.Answer) {
	a.Id = p.Id
	s.out.put(a)
	s.inFlight.Add(-1)
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
