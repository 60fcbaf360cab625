package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/eventlog"
)

// sampleEvery is how often the heads of the logs are noted, and logs trimmed.
const sampleEvery = time.Minute

// retentionMin is the least retention: whoever starts on the logs must find
// every map that is remembered, and its claims, from its first on.
const retentionMin = cairn.LifetimeMax + claim.Memory + 5*time.Minute

// A retention trims the logs. A record is dropped once it is older than the
// retention and nobody needs it: never past what the ledger settled and the
// leaderboard's durable checkpoint covers, nor past where a shard's next owner
// or the next generator would read from. The control log is kept for ever.
//
// Records carry no time of their own, so it notes where each log's head was
// at each sample, and trims to the newest sample that is old enough. After a
// restart it begins anew, which keeps more, never less.
type retention struct {
	store   eventlog.Store
	shards  int
	keep    time.Duration
	settled func(context.Context) (map[int]eventlog.Offset, error) // what the ledger has
	durable func() map[int]eventlog.Offset                         // what the leaderboard's checkpoint has
	on      func() bool                                            // whether it is this process that trims; nil means always
	log     *slog.Logger
	metrics *retentionMetrics // nil counts nothing

	heads map[eventlog.Name][]sample // oldest first
}

type sample struct {
	at   time.Time
	head eventlog.Offset
}

// retentionMetrics say whether logs are looked through.
type retentionMetrics struct{ sweeps *prometheus.CounterVec }

func newRetentionMetrics(reg prometheus.Registerer) *retentionMetrics {
	m := &retentionMetrics{
		sweeps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cairn_retention_sweeps_total",
			Help: "Times that the logs were looked through for what is old, a minute apart, by how it ended.",
		}, []string{"outcome"}),
	}
	m.sweeps.WithLabelValues("ok")
	m.sweeps.WithLabelValues("failed")
	reg.MustRegister(m.sweeps)
	return m
}

func (m *retentionMetrics) swept(err error) {
	switch {
	case m == nil:
	case err != nil:
		m.sweeps.WithLabelValues("failed").Inc()
	default:
		m.sweeps.WithLabelValues("ok").Inc()
	}
}

func (r *retention) run(ctx context.Context) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			// A failure is not the game's: the log only stays longer.
			err := r.sweep(ctx, now)
			if ctx.Err() != nil {
				return nil
			}
			r.metrics.swept(err)
			if err != nil {
				r.log.Warn("can't trim the logs", "err", err)
			}
		}
	}
}

// sweep notes every head and trims what is old and not needed.
func (r *retention) sweep(ctx context.Context, now time.Time) error {
	settled, err := r.settled(ctx)
	if err != nil {
		return err
	}
	durable := r.durable()
	for i := range r.shards {
		st, err := r.store.Status(ctx, eventlog.Shard(i))
		if err != nil {
			return err
		}
		// The shard's next owner reads from there; zero is from the start. And
		// where one of the others has nothing, nothing may go.
		needed := st.From
		for _, o := range []eventlog.Offset{settled[i], durable[i]} {
			if o.Less(needed) {
				needed = o
			}
		}
		if err := r.trim(ctx, eventlog.Shard(i), now, needed); err != nil {
			return err
		}
	}
	maps, err := r.store.Status(ctx, eventlog.Maps)
	if err != nil {
		return err
	}
	return r.trim(ctx, eventlog.Maps, now, maps.From) // the generator's next life reads from there
}

// trim drops from a log what is older than the retention and stands before
// needed.
func (r *retention) trim(ctx context.Context, name eventlog.Name, now time.Time, needed eventlog.Offset) error {
	st, err := r.store.Status(ctx, name)
	if err != nil {
		return err
	}
	if r.heads == nil {
		r.heads = map[eventlog.Name][]sample{}
	}
	heads := append(r.heads[name], sample{now, st.Last})
	var old eventlog.Offset
	for len(heads) > 0 && now.Sub(heads[0].at) >= r.keep {
		old = heads[0].head
		heads = heads[1:]
	}
	r.heads[name] = heads
	if needed.Less(old) {
		old = needed
	}
	if old.IsZero() || r.on != nil && !r.on() {
		return nil
	}
	return r.store.Trim(ctx, name, old)
}
