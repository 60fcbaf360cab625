package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A membership is a process's place among those of its role: its heart, and
// its view of the others.
type membership struct {
	// Static.
	opts    MemberOptions
	role    string
	view    *View
	heart   *heart
	members *prometheus.GaugeVec

	mu      sync.Mutex
	leaving bool
}

func newMembership(reg Registry, role string, opts MemberOptions) (*membership, error) {
	if err := ValidName(opts.Name); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	m := &membership{
		opts: opts, role: role, view: NewView(reg, role, opts.Timing, opts.Log),
		heart: newHeart(reg, role, opts.Name, opts.Addr, opts.Timing, opts.Log, opts.Metrics), members: membersSeen(opts.Metrics),
	}
	m.view.lost, m.heart.forgot = m.heart.forgotten, m.view.doubt
	return m, nil
}

// run keeps the process a member until ctx ends, and has changed called at
// first, whenever something about the members may be another, and from time to
// time.
func (m *membership) run(ctx context.Context, changed func([]Member)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = m.view.Run(ctx) }) // returns nil
	wg.Go(func() { m.heart.run(ctx) })
	tick := time.NewTicker(m.opts.Timing.BeatEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		members, next := m.view.Members()
		m.count(members)
		changed(members)
		select {
		case <-ctx.Done():
		case <-next:
		case <-tick.C:
		}
	}
}

// state is what the process is ready for now.
func (m *membership) state() State {
	m.mu.Lock()
	leaving := m.leaving
	m.mu.Unlock()
	switch {
	case leaving:
		return Leaving
	case m.opts.Ready() != nil:
		return Warming
	}
	return Live
}

// leave has the next heartbeat, which is sent at once, say that the process
// takes nothing any more.
func (m *membership) leave() {
	m.mu.Lock()
	m.leaving = true
	m.mu.Unlock()
	wake(m.heart.now)
}

// listed reports whether this process is among members.
func (m *membership) listed(members []Member) bool {
	return slices.ContainsFunc(members, func(o Member) bool { return o.Life == m.heart.self.Life })
}

// ready returns nil once the registry has answered, this process is a member,
// and it is ready for what falls to it.
func (m *membership) ready() error {
	members, _ := m.view.Members()
	switch {
	case !m.view.Fresh():
		return errors.New("the registry has not answered")
	case !m.listed(members):
		return errors.New("this process is not a member yet")
	}
	return m.opts.Ready()
}

func (m *membership) count(members []Member) {
	for _, state := range []State{Warming, Live, Leaving} {
		n := 0
		for i := range members {
			if members[i].State == state {
				n++
			}
		}
		m.members.WithLabelValues(m.role, string(state)).Set(float64(n))
	}
}

// A Partition shares the shards out among the members of a role whose work
// needs no hand-over: for a moment two may believe that a shard is theirs, or
// none may. Its methods may be called concurrently.
type Partition struct {
	*membership
	owned *prometheus.GaugeVec

	mu      sync.Mutex // of what follows
	mine    []bool     // by shard
	changed chan struct{}
}

// NewPartition returns the place of a process among those of a role, over the
// given number of shards. It owns nothing before Run.
func NewPartition(reg Registry, role string, shards int, opts MemberOptions) (*Partition, error) {
	m, err := newMembership(reg, role, opts)
	if err != nil {
		return nil, err
	}
	p := &Partition{membership: m, mine: make([]bool, shards), changed: make(chan struct{}), owned: shardsOwned(opts.Metrics)}
	m.heart.look = func() (State, []int) { return m.state(), p.Shards() }
	return p, nil
}

// Run takes part until ctx ends, and then takes the process's name off the
// list, so that others take what was its own at once. It returns nil.
func (p *Partition) Run(ctx context.Context) error {
	p.run(ctx, p.assign)
	p.set(make([]bool, len(p.mine)))
	return nil
}

// Leave gives all shards to the others, while there are any. Run must go on
// meanwhile.
func (p *Partition) Leave() { p.leave() }

// Ready returns nil once this process is a member and ready for its shards.
func (p *Partition) Ready() error { return p.ready() }

// Owns reports whether a shard falls to this process.
func (p *Partition) Owns(shard int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return shard >= 0 && shard < len(p.mine) && p.mine[shard]
}

// Shards returns the shards that fall to this process, ascending.
func (p *Partition) Shards() (shards []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for shard, mine := range p.mine {
		if mine {
			shards = append(shards, shard)
		}
	}
	return shards
}

// Changed returns a channel that is closed when Owns has another answer for
// some shard than when Changed was called.
func (p *Partition) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *Partition) assign(members []Member) {
	mine := make([]bool, len(p.mine))
	if p.listed(members) {
		for shard, owner := range Assign(members, len(mine)) {
			mine[shard] = owner == p.opts.Name
		}
	}
	p.set(mine)
}

func (p *Partition) set(mine []bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(p.mine, mine) {
		return
	}
	p.mine = mine
	n := 0
	for _, m := range mine {
		if m {
			n++
		}
	}
	p.owned.WithLabelValues(p.role).Set(float64(n))
	p.opts.Log.Info("shards fall to this process", "role", p.role, "shards", n)
	close(p.changed)
	p.changed = make(chan struct{})
}
