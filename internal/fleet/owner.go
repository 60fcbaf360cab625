package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/trail"
)

const (
	// acquireWithin bounds one try to take a shard over.
	acquireWithin = 5 * time.Second

	// calmFor is how long a shard that was given away is not taken back,
	// though this process may still believe that it should have it.
	calmFor = 500 * time.Millisecond

	// reconcileEvery is how often a process looks at what it should own, if
	// nothing has told it to.
	reconcileEvery = 100 * time.Millisecond
)

// OwnerOptions tunes an Owner.
type OwnerOptions struct {
	Name    string // the member's name; required (ValidName)
	Addr    string // HOST:PORT at which peers and gateways reach Handler; required
	Timing  Timing
	Dial    DialFunc              // nil dials TCP
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nothing
	Tracer  trace.Tracer          // makes the spans of attempts that are traced; nil makes none
}

// An Owner makes a claim service one of a fleet: it says that it is there,
// takes over the shards that fall to it, hands over those that fall to others,
// and answers gateways and peers (Handler).
type Owner struct {
	// Static after NewOwner.
	service *claim.Service
	view    *View
	opts    OwnerOptions
	timing  Timing
	heart   *heart
	peers   *peers
	metrics *ownerMetrics
	kick    chan struct{} // capacity 1: reconcile now
	asking  []inquirer    // by shard

	undecided trail.Few // lines of attempts that were not

	mu       sync.Mutex
	leaving  bool
	warm     bool
	moving   map[int]bool    // shards that are being taken over
	given    map[int]gift    // shards that were given away lately
	watching map[string]bool // lives of peers that are being watched
	tasks    sync.WaitGroup
}

// A gift is a shard that was given away.
type gift struct {
	to    Member    // Name, Addr and Life
	until time.Time // it is not taken back before
}

// NewOwner returns an Owner of service, which must have Options.Standby. It
// does nothing until Run.
func NewOwner(service *claim.Service, reg Registry, opts OwnerOptions) (*Owner, error) {
	if err := ValidName(opts.Name); err != nil {
		return nil, err
	}
	if opts.Addr == "" {
		return nil, errors.New("fleet: an owner needs an address")
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	o := &Owner{
		service: service, opts: opts, timing: opts.Timing.withDefaults(),
		view: NewView(reg, RoleClaims, opts.Timing, opts.Log), peers: newPeers(opts.Dial),
		kick: make(chan struct{}, 1), moving: map[int]bool{}, given: map[int]gift{}, watching: map[string]bool{},
		metrics: newOwnerMetrics(opts.Metrics),
	}
	for range service.Shards() {
		o.asking = append(o.asking, inquirer{turn: make(chan struct{}, 1)})
	}
	o.heart = newHeart(reg, RoleClaims, opts.Name, opts.Addr, o.timing, opts.Log, opts.Metrics)
	o.heart.look = o.look
	o.view.lost, o.heart.forgot = o.heart.forgotten, o.view.doubt
	o.heart.lapsed = func(ctx context.Context) { o.verify(ctx, o.serving()) }
	return o, nil
}

// Handler returns what peers and gateways call. It needs HTTP/2, with or
// without TLS.
func (o *Owner) Handler() http.Handler { return o.handler() }

// Ready returns nil once all that falls to this process is served by it, and
// all else is warm.
func (o *Owner) Ready() error {
	if !o.view.Fresh() {
		return errors.New("the registry has not answered")
	}
	members, _ := o.view.Members()
	if !slices.ContainsFunc(members, func(m Member) bool { return m.Life == o.heart.self.Life }) {
		return errors.New("this process is not a member yet")
	}
	if err := o.service.Ready(); err != nil {
		return err
	}
	for shard, owner := range o.view.Owners(o.service.Shards()) {
		if owner == o.opts.Name && o.service.Holding(shard) != claim.Serving {
			return fmt.Errorf("shard %d is not served yet", shard)
		}
	}
	return nil
}

// Run takes part in the fleet until ctx ends, and then takes its name off the
// list. It hands nothing over: Drain does, before.
func (o *Owner) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer o.peers.close()
	defer o.tasks.Wait()
	defer wg.Wait()
	wg.Go(func() { _ = o.view.Run(ctx) }) // returns nil
	wg.Go(func() { o.heart.run(ctx) })
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		members, changed := o.view.Members()
		o.reconcile(ctx, members)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-o.kick:
		case <-tick.C:
		}
	}
}

// Drain hands over every shard, and returns when this process serves none, or
// ctx ends, or nobody is there to take them. Run must go on meanwhile.
func (o *Owner) Drain(ctx context.Context) {
	o.mu.Lock()
	o.leaving = true
	o.mu.Unlock()
	wake(o.heart.now)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		members, _ := o.view.Members()
		others := slices.ContainsFunc(members, func(m Member) bool { return m.State == Live && m.Name != o.opts.Name })
		held := slices.ContainsFunc(o.holdings(), func(h claim.Holding) bool { return h > claim.Warm })
		if !held || !others {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (o *Owner) holdings() []claim.Holding {
	hs := make([]claim.Holding, o.service.Shards())
	for i := range hs {
		hs[i] = o.service.Holding(i)
	}
	return hs
}

// look says how this process stands, and what it serves.
func (o *Owner) look() (State, []int) {
	var serves []int
	for shard, h := range o.holdings() {
		if h == claim.Serving || h == claim.Leaving {
			serves = append(serves, shard)
		}
	}
	ready := o.service.Ready() == nil
	o.mu.Lock()
	defer o.mu.Unlock()
	o.warm = o.warm || ready // until verify finds a shard to be another's: for a moment it may lack single ones
	switch {
	case o.leaving:
		return Leaving, serves
	case o.warm:
		return Live, serves
	}
	return Warming, serves
}

// reconcile compares what this process should own with what it owns, and
// begins what is missing.
func (o *Owner) reconcile(ctx context.Context, members []Member) {
	o.watch(ctx, members)
	owners := Assign(members, o.service.Shards())
	before := Assign(Without(members, o.opts.Name), o.service.Shards())
	o.mu.Lock()
	defer o.mu.Unlock()
	var doubtful []int
	defer func() {
		if len(doubtful) > 0 {
			o.tasks.Go(func() { o.verify(ctx, doubtful) })
		}
	}()
	for shard, owner := range owners {
		if o.service.Holding(shard) == claim.Serving && (owner != o.opts.Name || o.contested(members, shard)) {
			doubtful = append(doubtful, shard) // it may have been fenced, and be quiet
		}
		if owner != o.opts.Name || o.moving[shard] || o.leaving {
			continue
		}
		if g, ok := o.given[shard]; ok {
			if time.Now().Before(g.until) {
				continue
			}
			delete(o.given, shard)
		}
		if h := o.service.Holding(shard); h == claim.Cold || h == claim.Warm || h == claim.Awaiting {
			o.moving[shard] = true
			from := o.holders(members, shard, before[shard])
			o.tasks.Go(func() { o.take(ctx, shard, from) })
		}
	}
}

// contested reports whether another says that it serves a shard, too.
func (o *Owner) contested(members []Member, shard int) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.Name != o.opts.Name && slices.Contains(m.Serves, shard) })
}

// holders are the members to ask for a shard: who say that they serve it, and
// whose it would be if this process were not there.
func (o *Owner) holders(members []Member, shard int, before string) []Member {
	var from []Member
	for _, m := range members {
		if m.Name != o.opts.Name && (m.Name == before || slices.Contains(m.Serves, shard)) {
			from = append(from, m)
		}
	}
	return from
}

// take takes a shard over from whoever has it.
func (o *Owner) take(ctx context.Context, shard int, from []Member) {
	defer func() {
		o.mu.Lock()
		delete(o.moving, shard)
		o.mu.Unlock()
		wake(o.kick)
		wake(o.heart.now)
	}()
	began := time.Now()
	// From now on attempts wait here: the old owner sends its callers to us.
	o.service.Expect(shard)
	how := "crash"
	for _, m := range from {
		// Then it fences the old owner out, which costs what was in flight a
		// retry. By then the old one knows that it may not be the owner.
		ask, cancel := context.WithTimeout(ctx, o.timing.TTL)
		err := o.peers.release(ask, m, shard, &o.heart.self)
		cancel()
		if err != nil {
			o.opts.Log.Info("a peer did not release a shard; fencing it", "shard", shard, "peer", m.Name, "err", err)
			continue
		}
		how = "planned"
	}
	ctx, cancel := context.WithTimeout(ctx, acquireWithin)
	defer cancel()
	if err := o.service.Acquire(ctx, shard); err != nil {
		o.opts.Log.Warn("can't take a shard over", "shard", shard, "err", err)
		return
	}
	o.metrics.takeovers.WithLabelValues(how).Observe(time.Since(began).Seconds())
	o.opts.Log.Debug("serves a shard", "shard", shard, "took", time.Since(began))
}

// give lets go of a shard, for another member.
func (o *Owner) give(ctx context.Context, shard int, to Member) error {
	o.mu.Lock()
	o.given[shard] = gift{to, time.Now().Add(calmFor)}
	o.mu.Unlock()
	err := o.service.Release(ctx, shard)
	wake(o.heart.now)
	return err
}

// ownerOf returns whom to ask for a shard; without a name if nobody is known.
func (o *Owner) ownerOf(shard int) Member {
	o.mu.Lock()
	g, ok := o.given[shard]
	o.mu.Unlock()
	if ok && time.Now().Before(g.until) {
		return g.to
	}
	if shard < 0 || shard >= o.service.Shards() {
		return Member{}
	}
	m, _ := o.view.Member(o.view.Owners(o.service.Shards())[shard])
	return m
}

// watch keeps a connection to each peer whose end is the end of the process:
// it tells earlier than the lease that somebody was killed.
func (o *Owner) watch(ctx context.Context, members []Member) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range members {
		if m.Name == o.opts.Name || o.watching[m.Life] {
			continue
		}
		o.watching[m.Life] = true
		o.tasks.Go(func() {
			if o.peers.watch(ctx, m, o.stillThere) {
				o.opts.Log.Info("a peer's process has ended", "peer", m.Name)
				o.view.Gone(m)
			}
			o.mu.Lock()
			delete(o.watching, m.Life)
			o.mu.Unlock()
		})
	}
}

// stillThere reports whether a member is believed to be there.
func (o *Owner) stillThere(m Member) bool {
	now, ok := o.view.Member(m.Name)
	return ok && now.Life == m.Life
}

// wake makes a loop that waits on c, of capacity 1, look again.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will look already
	}
}
