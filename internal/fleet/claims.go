package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
)

// The pauses between two tries of one attempt, each twice the one before.
const (
	backoffMin = 5 * time.Millisecond
	backoffMax = 80 * time.Millisecond
)

// hopsMax is how often an attempt follows, without a pause, where an owner
// sends it.
const hopsMax = 2

// ClaimsOptions tunes Claims.
type ClaimsOptions struct {
	Shards int // how many shards there are; 0 means 64

	// ShardsOf returns over how many shards the tiles of a map are spread, if
	// that is known here. Without it the owner asked first says whom to ask.
	ShardsOf func(cairn.HuntID, cairn.Tick) (int, bool)

	Timing  Timing
	Dial    DialFunc              // nil dials TCP
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nothing
	Tracer  trace.Tracer          // makes the spans of attempts that are traced; nil makes none
}

// Claims decides attempts by asking the owners of their shards: what a
// [claim.Service] is to a process that owns every shard, this is to a gateway.
//
// An attempt whose owner vanished is sent to the next one, until its context
// ends: that is safe, as the holder of a tile hears the same as often as it
// asks. If it may have been decided when time is up the verdict is Pending;
// if it can't have been the error is claim.ErrUnavailable.
type Claims struct {
	// Static after NewClaims.
	view    *View
	opts    ClaimsOptions
	peers   *peers
	metrics *claimsMetrics
	tasks   sync.WaitGroup // of links
	askers  askers

	mu      sync.Mutex
	ended   bool
	links   map[string]*link // by life
	members []Member
	changed <-chan struct{}
	owners  []string // by shard, out of members
}

// NewClaims returns Claims over the members that reg knows. It reaches nobody
// before Run.
func NewClaims(reg Registry, opts ClaimsOptions) *Claims {
	if opts.Shards == 0 {
		opts.Shards = 64
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.ShardsOf == nil {
		opts.ShardsOf = func(cairn.HuntID, cairn.Tick) (int, bool) { return 0, false }
	}
	c := &Claims{
		view: NewView(reg, RoleClaims, opts.Timing, opts.Log), opts: opts, peers: newPeers(opts.Dial),
		links: map[string]*link{}, owners: make([]string, opts.Shards),
	}
	c.metrics = newClaimsMetrics(opts.Metrics, c)
	return c
}

// Run follows who is there until ctx ends. It returns nil.
func (c *Claims) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.view.Run(ctx) }) // returns nil
	for ctx.Err() == nil {
		members, changed := c.view.Members()
		c.follow(members, changed)
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	wg.Wait()
	c.mu.Lock()
	c.ended = true
	for _, l := range c.links {
		l.close()
	}
	c.mu.Unlock()
	c.tasks.Wait()
	c.askers.end()
	c.peers.close()
	return nil
}

// follow takes members for those who are there, and breaks the links to all
// others, whose attempts then go to whoever took over.
func (c *Claims) follow(members []Member, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members, c.changed, c.owners = members, changed, Assign(members, c.opts.Shards)
	for life, l := range c.links {
		if !slices.ContainsFunc(members, func(m Member) bool { return m.Life == life && m.Addr == l.member.Addr }) {
			l.close()
			delete(c.links, life)
		}
	}
}

// Ready returns nil while every shard has an owner.
func (c *Claims) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.view.Fresh():
		return errors.New("the registry has not answered")
	case slices.Contains(c.owners, ""):
		return errors.New("no claims process is there")
	}
	return nil
}

// Claim decides one attempt: see [claim.Service.Claim].
func (c *Claims) Claim(ctx context.Context, a *cairn.Attempt) (cairn.Verdict, error) {
	return c.one(ctx, a, false)
}

// Lookup reports who holds a tile: see [claim.Service.Lookup].
func (c *Claims) Lookup(ctx context.Context, ref cairn.TileRef, player cairn.PlayerID) (cairn.Verdict, error) {
	return c.one(ctx, &cairn.Attempt{TileRef: ref, Player: player}, true)
}

// ClaimAll decides several attempts, each on its own, and fills out, which
// must be as long. It returns when all are decided or ctx ends.
func (c *Claims) ClaimAll(ctx context.Context, as []cairn.Attempt, out []claim.Answer) {
	if len(as) == 0 {
		return
	}
	ctx, by := c.sender(ctx, as[0].TileRef, len(as))
	var wg sync.WaitGroup
	for i := range as {
		wg.Go(func() { out[i].Verdict, out[i].Err = c.timed(ctx, &as[i], false, by) })
	}
	wg.Wait()
}

// one asks owner after owner until one has decided the attempt or ctx ends.
func (c *Claims) one(ctx context.Context, a *cairn.Attempt, lookup bool) (cairn.Verdict, error) {
	ctx, by := c.sender(ctx, a.TileRef, 1)
	return c.timed(ctx, a, lookup, by)
}

func (c *Claims) timed(ctx context.Context, a *cairn.Attempt, lookup bool, by sender) (cairn.Verdict, error) {
	began := time.Now()
	v, err := c.ask(ctx, a, lookup, false, by)
	c.metrics.duration.Observe(time.Since(began).Seconds())
	by.batch.Answered(v.Outcome, err)
	return v, err
}

// ask asks for an attempt of which perhaps says that an owner may have decided
// it, and nobody heard.
func (c *Claims) ask(ctx context.Context, a *cairn.Attempt, lookup, perhaps bool, by sender) (cairn.Verdict, error) {
	pause := backoffMin
	hops := 0 // since the last pause
	var hint Member
	for tries := 0; ; tries++ {
		if tries > 0 {
			c.metrics.retries.Inc()
			by.again(hint.Name)
		}
		to, l, changed := c.route(a.TileRef, hint)
		r := result{fate: unsent}
		if l != nil {
			r = l.do(ctx, a, lookup, by.origin)
		}
		switch hint = (Member{}); r.fate {
		case decided:
			if r.verdict.Outcome != cairn.Pending {
				return r.verdict, nil
			}
			perhaps = perhaps || !lookup // the owner was fenced out with it in flight
		case unavailable, full:
			return c.undecided(perhaps, r.fate)
		case lost:
			perhaps = perhaps || !lookup
		case elsewhere:
			hint = r.owner
			if hops++; hint.Life != "" && hint.Life != to.Life && hops <= hopsMax {
				continue // it has just been handed over: ask there at once
			}
		}
		select {
		case <-ctx.Done():
			return c.undecided(perhaps, r.fate)
		case <-changed:
		case <-time.After(pause):
			pause = min(2*pause, backoffMax)
		}
		hops = 0
	}
}

// undecided is the answer to an attempt that nobody said to have decided.
func (c *Claims) undecided(perhaps bool, why fate) (cairn.Verdict, error) {
	if perhaps {
		return cairn.Verdict{Outcome: cairn.Pending, RetryAfter: claim.RetryAfter}, nil
	}
	if why == full {
		c.metrics.full.Inc()
		return cairn.Verdict{}, fmt.Errorf("%w: %d attempts are in flight to its owner", claim.ErrUnavailable, windowMax)
	}
	return cairn.Verdict{}, claim.ErrUnavailable
}

// route returns whom to ask for a tile, the link there, and what is closed
// when others are there. The link is nil if there is nobody. The hint, whom an
// owner named, may have come so lately that it is not seen here yet.
func (c *Claims) route(ref cairn.TileRef, hint Member) (Member, *link, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if hint.Life != "" && hint.Addr != "" && !c.ended {
		return hint, c.link(hint), c.changed
	}
	name := hint.Name
	if name == "" {
		shard := 0 // of a map that is not known here anybody can say whom to ask
		if n, ok := c.opts.ShardsOf(ref.Hunt, ref.Tick); ok {
			shard = min(cairn.ShardOf(cairn.SlotterOf(ref.Hunt, ref.Tick).Slot(ref.Tile), n), len(c.owners)-1)
		}
		name = c.owners[shard]
	}
	i := slices.IndexFunc(c.members, func(m Member) bool { return m.Name == name })
	if i < 0 || c.ended {
		return Member{}, nil, c.changed
	}
	return c.members[i], c.link(c.members[i]), c.changed
}

// link returns the link to a member. mu is held.
func (c *Claims) link(m Member) *link {
	l := c.links[m.Life]
	if l == nil {
		l = newLink(c.peers, m, &c.tasks)
		c.links[m.Life] = l
	}
	return l
}

// inFlight returns how many attempts wait for an owner's answer.
func (c *Claims) inFlight() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.links {
		n += l.inFlight()
	}
	return n
}
