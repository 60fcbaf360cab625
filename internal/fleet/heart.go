package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// MemberOptions say who a process is among those of its role.
type MemberOptions struct {
	Name    string                // the member's name; required (ValidName)
	Addr    string                // HOST:PORT of its fleet listener; empty if it has none
	Timing  Timing                //
	Ready   func() error          // nil as soon as, and while, the process can take what falls to it; nil func: always
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nothing
}

func (o MemberOptions) withDefaults() MemberOptions {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	o.Timing = o.Timing.withDefaults()
	return o
}

// A heart keeps one process a member of its role: it renews the lease.
type heart struct {
	// Static after newHeart and before run.
	reg    Registry
	role   string
	timing Timing
	log    *slog.Logger
	self   Member                // Name, Life and Addr
	look   func() (State, []int) // what the next beat says: the state, and the shards that are served
	lapsed func(context.Context) // called before a lease that had run out is renewed; nil does nothing
	forgot func()                // called when the registry lacks this process, whose lease runs
	missed prometheus.Counter
	now    chan struct{} // capacity 1: beat now

	mu    sync.Mutex
	beats uint64
	until time.Time // the lease runs at least so long
}

func newHeart(reg Registry, role, name, addr string, timing Timing, log *slog.Logger, metrics prometheus.Registerer) *heart {
	return &heart{
		reg: reg, role: role, timing: timing, log: log, self: Member{Name: name, Life: rand.Text(), Addr: addr},
		now: make(chan struct{}, 1), missed: missedBeats(metrics).WithLabelValues(role),
	}
}

// run renews the lease until ctx ends, and then ends it.
func (h *heart) run(ctx context.Context) {
	tick := time.NewTicker(h.timing.BeatEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		h.beat(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-h.now:
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.timing.TTL)
	defer cancel()
	if h.runs() {
		h.beat(ctx) // how it ends, for those who doubt that it is gone
	}
	if err := h.reg.Leave(ctx, h.role, h.member()); err != nil {
		h.log.Warn("can't leave the fleet; the lease will run out", "role", h.role, "err", err)
	}
}

// beat renews the lease. One that had run out is renewed only when it is known
// what others have taken meanwhile: a process that was paused must not be
// believed while it believes what it believed before.
func (h *heart) beat(ctx context.Context) {
	if h.lapsed != nil && !h.runs() {
		// A log that does not answer must not keep the process from the rest.
		ask, cancel := context.WithTimeout(ctx, h.timing.TTL/2)
		h.lapsed(ask)
		cancel()
	}
	ctx, cancel := context.WithTimeout(ctx, h.timing.TTL)
	defer cancel()
	began := time.Now()
	runs := h.runs()
	renewed, err := h.reg.Beat(ctx, h.role, h.member(), h.timing.TTL)
	if err != nil {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			h.missed.Inc()
			h.log.Warn("can't renew the lease", "role", h.role, "err", err)
		}
		return
	}
	if runs && !renewed && h.forgot != nil {
		h.forgot()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until = began.Add(h.timing.TTL)
}

// member is this process as a member, with one more heartbeat.
func (h *heart) member() Member {
	m := h.self
	m.State, m.Serves = h.look()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.beats++
	m.Beat = h.beats
	return m
}

// forgotten reports whether the registry, which has ms, lacks this process,
// whose lease runs: then it has lost its memory, and others may be there, too.
func (h *heart) forgotten(ms []Member) bool {
	return h.runs() && !slices.ContainsFunc(ms, func(m Member) bool { return m.Name == h.self.Name })
}

// runs reports whether the lease runs: nobody takes what is this process's.
func (h *heart) runs() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Before(h.until)
}
