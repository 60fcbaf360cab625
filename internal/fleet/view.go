package fleet

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// A View is who one process believes to be there, of one role. It asks the
// registry, and doubts it: when the registry itself was away, leases ran out
// that nobody could renew, and when it has lost its memory all are lost. Then
// nobody is taken for gone before all had the time to beat again. Its methods may be called concurrently.
type View struct {
	reg    Registry
	role   string
	timing Timing
	log    *slog.Logger
	lost   func([]Member) bool // an answer shows that the registry lost its memory; nil: it can't be told

	mu      sync.Mutex
	roster  roster
	members []Member
	owners  []string      // Assign of members over so many shards; not changed once it is made
	changed chan struct{} // closed, and made anew, when members change
	fresh   bool          // the registry has answered
}

// NewView returns a View of a role, which is empty until Run.
func NewView(reg Registry, role string, timing Timing, log *slog.Logger) *View {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	timing = timing.withDefaults()
	return &View{
		reg: reg, role: role, timing: timing, log: log, changed: make(chan struct{}),
		roster: roster{ttl: timing.TTL, slack: 2 * timing.BeatEvery, seen: map[string]Member{}, gone: map[string]Member{}},
	}
}

// Run looks at the registry until ctx ends.
func (v *View) Run(ctx context.Context) error {
	tick := time.NewTicker(v.timing.PollEvery)
	defer tick.Stop()
	for {
		v.poll(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (v *View) poll(ctx context.Context) {
	// Asked before the lease of the slowest could run out, or not at all: an
	// answer that is old says nothing about now.
	ctx, cancel := context.WithTimeout(ctx, v.timing.TTL/2)
	defer cancel()
	began := time.Now()
	ms, err := v.reg.Members(ctx, v.role)
	if err != nil {
		if ctx.Err() == nil || context.Cause(ctx) == context.DeadlineExceeded {
			v.log.Debug("can't ask the registry", "role", v.role, "err", err)
		}
		return
	}
	lost := v.lost != nil && v.lost(ms)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fresh = true
	if lost || v.suspicious(ms) {
		v.roster.since = began
	}
	v.roster.update(began, ms)
	v.publish()
}

// doubt says that the registry has lost its memory: who is missing may be
// there.
func (v *View) doubt() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.log.Warn("the registry has lost its memory; nobody is taken for gone before all had the time to say that they are there", "role", v.role)
	v.roster.since = time.Now()
}

// suspicious reports whether so many have vanished at once that the registry
// may have lost its memory: several, or all. mu is held.
func (v *View) suspicious(ms []Member) bool {
	n := 0
	for i := range v.members {
		if !slices.ContainsFunc(ms, func(m Member) bool { return m.Name == v.members[i].Name }) {
			n++
		}
	}
	return n > 1 || n > 0 && len(ms) == 0
}

// publish makes what the roster has the members. mu is held.
func (v *View) publish() {
	now := v.roster.members()
	same := slices.EqualFunc(now, v.members, func(a, b Member) bool {
		return a.Name == b.Name && a.Life == b.Life && a.Addr == b.Addr && a.State == b.State
	})
	if !same {
		v.log.Info("the fleet has changed", "role", v.role, "members", names(now))
	}
	if !same || !slices.EqualFunc(now, v.members, func(a, b Member) bool { return slices.Equal(a.Serves, b.Serves) }) {
		close(v.changed)
		v.changed = make(chan struct{})
		v.owners = nil
	}
	v.members = now
}

// Owners returns who owns each shard, as [Assign] has it. The slice must not be
// changed.
func (v *View) Owners(shards int) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.owners) != shards {
		v.owners = Assign(v.members, shards)
	}
	return v.owners
}

func names(ms []Member) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Name+" ("+string(m.State)+")")
	}
	return out
}

// Members returns who is there, sorted by name, and a channel that is closed
// when others are, or one's state, life, address or what it serves is another.
// The slice must not be changed.
func (v *View) Members() ([]Member, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.members, v.changed
}

// Member returns the member of that name.
func (v *View) Member(name string) (Member, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// Asked returns when the newest answer of the registry was asked for.
func (v *View) Asked() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.roster.last
}

// Fresh reports whether the registry has ever answered.
func (v *View) Fresh() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.fresh
}

// Gone says that a member's process is known to have ended: nobody listens at
// its address any more. It is left out, before its lease ends, until it beats
// again.
func (v *View) Gone(m Member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.roster.leave(m)
	v.publish()
}

// A roster is who is there, out of the registry's answers. It is a plain value.
type roster struct {
	ttl   time.Duration
	slack time.Duration // how late after ttl a member may still be heard of
	last  time.Time     // when the newest answer was asked for
	since time.Time     // the registry has answered without a break since
	seen  map[string]Member
	gone  map[string]Member // said to have ended, as they were then
}

// update takes in an answer that was asked for at now.
func (r *roster) update(now time.Time, ms []Member) {
	if r.last.IsZero() || now.Sub(r.last) > r.ttl {
		r.since = now
	}
	// After a break those who are missing may only not have been able to beat.
	// What nobody ever saw is not missing: at the first answer all is known.
	if r.last.IsZero() || now.Sub(r.since) > r.ttl+r.slack {
		clear(r.seen)
	}
	r.last = now
	for _, m := range ms {
		r.seen[m.Name] = m
	}
}

// leave notes that m has ended.
func (r *roster) leave(m Member) {
	if s, ok := r.seen[m.Name]; ok && s.Life == m.Life {
		r.gone[m.Name] = s
	}
}

// members returns who is there, sorted by name.
func (r *roster) members() []Member {
	ms := make([]Member, 0, len(r.seen))
	for name, m := range r.seen {
		if g, ok := r.gone[name]; ok {
			// One beat may have been on its way when it ended.
			if g.Life == m.Life && m.Beat <= g.Beat+1 {
				continue
			}
			delete(r.gone, name)
		}
		ms = append(ms, m)
	}
	for name := range r.gone {
		if _, ok := r.seen[name]; !ok {
			delete(r.gone, name)
		}
	}
	sortMembers(ms)
	return ms
}
