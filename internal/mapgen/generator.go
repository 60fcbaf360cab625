package mapgen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn/internal/eventlog"
)

// Options tunes a Generator. The zero value is ready for production.
type Options struct {
	// Lead is how long before it opens a map is due; 0 means 400ms. Below
	// 250ms, those who judge claims may not have it in time.
	Lead time.Duration

	// Grace is how long after a map closed a claim of it may still be
	// appended by a shard that is otherwise silent; 0 means 10s. What nobody
	// claimed is offered again after it, or as soon as every shard has
	// claims from after the close. Whoever owns a shard must append no claim
	// later than that after it was received.
	Grace time.Duration

	// Shards is how many shards' logs are followed; 0 means all that are
	// provisioned when Run begins.
	Shards int

	Now     func() time.Time      // nil means time.Now
	Log     *slog.Logger          // nil means discard
	Metrics prometheus.Registerer // nil means unregistered
}

// A Generator emits the maps of all live hunts into the maps log: one a tick,
// exactly. It needs no memory of its own: another can take over at any time,
// on another machine, and goes on with the next tick.
type Generator struct {
	store   eventlog.Store
	key     [32]byte
	opts    Options
	metrics *metrics
}

// New returns a Generator that draws maps with that key. The store's maps,
// control and shard logs must have been provisioned.
func New(store eventlog.Store, key [32]byte, opts Options) *Generator {
	if opts.Lead == 0 {
		opts.Lead = 400 * time.Millisecond
	}
	if opts.Grace == 0 {
		opts.Grace = 10 * time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Generator{store: store, key: key, opts: opts, metrics: newMetrics(opts.Metrics)}
}

// reopenAfter is how long a generator waits after an append of which it can't
// be said whether it took place, before it begins anew from the log.
const reopenAfter = 100 * time.Millisecond

// Run fences out every earlier generator and emits maps until ctx ends, another
// generator takes over ([eventlog.ErrFenced]), or a log fails it, and returns
// why. An append with an unknown outcome is none of these: Run reads from the
// log what became of it, and goes on.
func (g *Generator) Run(ctx context.Context) error {
	for {
		err := g.live(ctx)
		if !errors.Is(err, eventlog.ErrUnknown) || ctx.Err() != nil {
			return err
		}
		g.opts.Log.Warn("mapgen: beginning anew from the log", "err", err)
		t := time.NewTimer(reopenAfter)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// live is the life of one writer.
func (g *Generator) live(ctx context.Context) error {
	l, err := g.open(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	group, ctx := errgroup.WithContext(ctx)
	l.follow(ctx, group)
	group.Go(func() error { return l.run(ctx) })
	return group.Wait()
}

// run emits what is due and sleeps until more is, or until the control log
// says otherwise.
func (l *life) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-l.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		next, err := l.step(ctx)
		if err != nil {
			return err
		}
		timer.Reset(max(0, next.Time().Sub(l.g.opts.Now())))
	}
}

// before returns the offset to follow from so that the record at o is the
// first to come. Of a fence or the genesis it is the record behind, since
// neither says anything here.
func before(o eventlog.Offset) eventlog.Offset {
	if o.Seq == 0 || o == eventlog.GenesisOffset {
		return o
	}
	return eventlog.Offset{Epoch: o.Epoch, Seq: o.Seq - 1}
}

// followFrom follows a log from behind after. If what is behind it is lost,
// trimmed or rolled back, it follows from the oldest record that there is.
func (g *Generator) followFrom(ctx context.Context, log eventlog.Name, after eventlog.Offset) (f eventlog.Follower, lost bool, err error) {
	f, err = g.store.Follow(ctx, log, after)
	if errors.Is(err, eventlog.ErrTrimmed) || errors.Is(err, eventlog.ErrDiverged) {
		st, serr := g.store.Status(ctx, log)
		if serr != nil {
			return nil, true, fmt.Errorf("mapgen: %w", serr)
		}
		g.opts.Log.Warn("mapgen: what should be read of a log is lost", "log", string(log), "from", after.String(), "oldest", st.First.String(), "err", err)
		f, err = g.store.Follow(ctx, log, before(st.First))
		lost = true
	}
	if err != nil {
		return nil, lost, fmt.Errorf("mapgen: %w", err)
	}
	return f, lost, nil
}
