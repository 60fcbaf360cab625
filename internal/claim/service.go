// Package claim is the Tile Claim Service: it grants each tile exactly once.
//
// Attempts on the tiles of a shard meet in the memory of that shard's owner.
// A pure [Book] decides them; one loop drives it, appends the winners to the
// shard's fenced log in batches, and only when the append is acknowledged
// tells anyone, winner or loser. What the log has is a fact; what it may or
// may not have is answered pending.
package claim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/puzzle"
)

// ErrUnavailable says that the attempt was not decided, and took nothing: its
// shard is being taken over, its queue is full, or its map has not been seen
// yet. Try again in [RetryAfter].
var ErrUnavailable = errors.New("claim: can't decide this attempt now")

// RetryAfter is when a caller that heard ErrUnavailable should ask again.
const RetryAfter = time.Second

// Options tunes a Service. The zero value is ready for production.
type Options struct {
	Shards  int                   // shards 0 to Shards-1 are served; 0 means 64
	Standby bool                  // own no shard before Acquire, nor again after it was lost
	MapWait time.Duration         // longest wait of a call for maps that should be there; 0 means 250ms
	Now     func() time.Time      // the clock that judges; nil means time.Now
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nothing
	Tracer  trace.Tracer          // makes the spans of batches whose context is traced; nil makes none
}

// A Service owns shards and answers attempts. Its methods may be called
// concurrently, before Run as well: then they wait.
type Service struct {
	store   eventlog.Store
	keeper  *puzzle.Keeper
	opts    Options
	metrics *metrics
	shards  []*shard
	atlas   atomic.Pointer[atlas] // replaced whole by fold
	foldMu  sync.Mutex            // one fold at a time
	batches sync.Pool             // of *batch
	read    chan struct{}         // closed by Run when the control and maps logs are folded up to their heads
}

// An Answer is what came of one attempt: a Verdict, unless Err is set.
type Answer struct {
	Verdict cairn.Verdict
	Err     error
}

// New returns a Service over store whose puzzles are keeper's. It does
// nothing until Run.
func New(store eventlog.Store, keeper *puzzle.Keeper, opts Options) *Service {
	if opts.Shards == 0 {
		opts.Shards = 64
	}
	if opts.MapWait == 0 {
		opts.MapWait = 250 * time.Millisecond
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{store: store, keeper: keeper, opts: opts, read: make(chan struct{})}
	s.atlas.Store(newAtlas())
	for i := range opts.Shards {
		s.shards = append(s.shards, newShard(s, i))
	}
	s.metrics = newMetrics(opts.Metrics, s)
	return s
}

func (s *Service) now() cairn.Instant { return cairn.InstantOf(s.opts.Now()) }

// Run folds the control and maps logs, then fences, replays and serves every
// shard, or with Options.Standby keeps each warm until Acquire, until ctx ends;
// then it drains: what was sent to a log gets its answer. It returns nil, or
// the first error that another try can't mend. It may be called once.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	start := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	caught := make(chan struct{}, 2)
	start(func(ctx context.Context) error { return s.follow(ctx, eventlog.Control, s.foldControl, caught) })
	start(func(ctx context.Context) error { return s.follow(ctx, eventlog.Maps, s.foldMaps(), caught) })
	for range 2 {
		select {
		case <-caught:
		case <-ctx.Done():
		}
	}
	if ctx.Err() == nil {
		close(s.read)
	}
	for _, sh := range s.shards {
		start(sh.run)
	}
	<-ctx.Done()
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Ready returns nil once every shard is fenced and replayed; one that is not
// the service's must be warm.
func (s *Service) Ready() error {
	n := 0
	for _, sh := range s.shards {
		if st := sh.state(); st.ready && !st.fenced || st.warm && !st.want {
			n++
		}
	}
	if n < len(s.shards) {
		return fmt.Errorf("%d of %d shards are ready", n, len(s.shards))
	}
	return nil
}

// Claim decides one attempt. It returns once the verdict is a fact of the log
// or final without one. If ctx ends before, the verdict is Pending: the
// attempt may still win, and [Service.Lookup] will tell.
func (s *Service) Claim(ctx context.Context, a *cairn.Attempt) (cairn.Verdict, error) {
	return s.one(ctx, a, false)
}

// Lookup reports who holds a tile: Won if it is the player, Gone if another,
// Pending while that is not decided, and the zero Outcome if nobody does.
func (s *Service) Lookup(ctx context.Context, ref cairn.TileRef, player cairn.PlayerID) (cairn.Verdict, error) {
	return s.one(ctx, &cairn.Attempt{TileRef: ref, Player: player}, true)
}

func (s *Service) one(ctx context.Context, a *cairn.Attempt, lookup bool) (cairn.Verdict, error) {
	as, out := [1]cairn.Attempt{*a}, [1]Answer{}
	s.all(ctx, as[:], out[:], lookup)
	return out[0].Verdict, out[0].Err
}

// ClaimAll decides several attempts, each on its own, and fills out, which
// must be as long. It returns when all are decided or ctx ends.
func (s *Service) ClaimAll(ctx context.Context, as []cairn.Attempt, out []Answer) {
	s.all(ctx, as, out, false)
}

func (s *Service) all(ctx context.Context, as []cairn.Attempt, out []Answer, lookup bool) {
	b := s.newBatch(as, lookup)
	b.copies = append(b.copies[:0], as...) // if ctx ends, they are with their shards still
	b.attempts = b.copies
	b.held.Add(1)
	defer b.let()
	b.send(ctx)
	select {
	case <-b.done:
	case <-ctx.Done():
		// The shards may still decide them all: nothing is read here any more,
		// unless they have.
		if b.out.Load() > 0 {
			for i := range out {
				out[i] = Answer{Verdict: cairn.Verdict{Outcome: cairn.Pending, RetryAfter: RetryAfter}}
			}
			return
		}
	}
	for i := range out {
		out[i] = b.calls[i].answer
	}
}

// Submit decides several attempts, each on its own, as ClaimAll does, but does
// not wait: answered is called once for each, with its place in as, by any
// goroutine, also before Submit returns. It must be quick, for a shard waits for
// it, and must not put attempts to the Service. The Answer is borrowed; as is
// borrowed until all are answered. Submit itself waits for maps that should be
// there, at most Options.MapWait, or until ctx ends; what it has handed to a
// shard by then is decided all the same.
func (s *Service) Submit(ctx context.Context, as []cairn.Attempt, answered func(int, *Answer)) {
	b := s.newBatch(as, false)
	b.answered = answered
	b.send(ctx)
}
