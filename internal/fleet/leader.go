package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn/internal/eventlog"
)

// leadShard is what the member of a role that leads says to serve.
const leadShard = 0

// The pauses of a leader that was fenced out and still believes that it is the
// one, each twice the one before.
const (
	fencedMin = 50 * time.Millisecond
	fencedMax = 500 * time.Millisecond

	calmAfter = 10 * time.Second // without being fenced out, they begin anew
)

// A Leader finds out whether its process is the one of its role that is to
// work, while the others stand by. Whoever works goes on to do so while it is
// there and ready; else it falls to the one whom rendezvous hashing names.
//
// It keeps nobody from working who should not: two may believe for a moment
// that they lead. The fence of the log that they write tells them apart. Its
// methods may be called concurrently.
type Leader struct {
	*membership
	gauge *prometheus.GaugeVec

	mu      sync.Mutex // of what follows
	leads   bool
	fenced  time.Time     // when it was fenced out last
	pause   time.Duration // not to lead for so long since
	changed chan struct{}
}

// NewLeader returns the place of a process among those of a role. It leads
// nothing before Run.
func NewLeader(reg Registry, role string, opts MemberOptions) (*Leader, error) {
	m, err := newMembership(reg, role, opts)
	if err != nil {
		return nil, err
	}
	l := &Leader{membership: m, gauge: leads(opts.Metrics), changed: make(chan struct{})}
	m.heart.look = func() (State, []int) {
		if l.Leads() {
			return m.state(), []int{leadShard}
		}
		return m.state(), nil
	}
	m.heart.lapsed = func(ctx context.Context) {
		// It may have been paused, and another leads meanwhile.
		m.view.poll(ctx)
		l.decide()
	}
	l.gauge.WithLabelValues(role).Set(0)
	return l, nil
}

// Leads reports whether this process is the one to work.
func (l *Leader) Leads() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leads
}

// Changed returns a channel that is closed when Leads has another answer than
// when Changed was called.
func (l *Leader) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Ready returns nil once this process is a member, and ready to lead.
func (l *Leader) Ready() error { return l.ready() }

// Run takes part until ctx ends: then it waits for work, takes the process's
// name off the list, so that another leads at once, and returns nil.
//
// While this process leads, Run has work called. The context of that call ends
// when it leads no more, and work must return then. If work returns
// [eventlog.ErrFenced] another may lead: it is called again once this process
// is still, or again, the one. Any other return of work, while its context runs,
// ends Run, with its error. A nil work is none: ask Leads.
func (l *Leader) Run(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	member, resign := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { l.run(member, func([]Member) { l.decide() }) })
	defer wg.Wait()
	defer resign()
	defer func() { // once work has ended: those who take over then fence nobody
		l.leave()
		l.decide()
	}()
	defer cancel()
	if work == nil {
		<-ctx.Done()
		return nil
	}
	for {
		if !l.awaitLead(ctx, true) {
			return nil
		}
		err := l.lead(ctx, work)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, eventlog.ErrFenced):
			l.Fenced()
		case err != nil && !errors.Is(err, errDeposed):
			return err
		case err == nil:
			return nil
		}
	}
}

// errDeposed says that work returned because it was told to.
var errDeposed = errors.New("fleet: leads no more")

// lead calls work for as long as this process leads.
func (l *Leader) lead(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		l.awaitLead(ctx, false)
		cancel()
	})
	l.opts.Log.Info("this process leads", "role", l.role)
	err := work(ctx)
	if ctx.Err() != nil {
		return errDeposed
	}
	cancel()
	return err
}

// awaitLead waits until Leads is what is wanted, or ctx ends: then it returns
// false.
func (l *Leader) awaitLead(ctx context.Context, want bool) bool {
	for ctx.Err() == nil {
		l.mu.Lock()
		leads, changed := l.leads, l.changed
		l.mu.Unlock()
		if leads == want {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return false
}

// Fenced says that another has fenced this process out of what whoever leads
// writes. It does not lead for a moment, and then only if nobody else does.
// Run says so by itself when work returns ErrFenced.
func (l *Leader) Fenced() {
	l.mu.Lock()
	now := time.Now()
	if now.Sub(l.fenced) > calmAfter {
		l.pause = 0
	}
	l.pause = min(max(2*l.pause, fencedMin), fencedMax)
	l.fenced = now
	l.mu.Unlock()
	l.opts.Log.Info("another works now; standing by", "role", l.role)
	l.decide()
}

// decide finds out who leads.
func (l *Leader) decide() {
	state := l.state()
	l.mu.Lock()
	defer l.mu.Unlock()
	leads := l.is(state)
	if l.leads == leads {
		return
	}
	l.leads = leads
	value := 0.0
	if leads {
		value = 1
	}
	l.gauge.WithLabelValues(l.role).Set(value)
	close(l.changed)
	l.changed = make(chan struct{})
	wake(l.heart.now) // the others are to know at once
}

// is reports whether this process leads. mu is held.
func (l *Leader) is(state State) bool {
	if state != Live || time.Since(l.fenced) < l.pause {
		return false
	}
	members, _ := l.view.Members()
	others := slices.DeleteFunc(slices.Clone(members), func(m Member) bool {
		return m.State != Live || m.Name == l.opts.Name
	})
	works := func(m Member) bool { return slices.Contains(m.Serves, leadShard) }
	working := slices.DeleteFunc(slices.Clone(others), func(m Member) bool { return !works(m) })
	switch {
	case l.leads && len(working) == 0:
		return true // also while the registry is away: then nobody else can begin
	case !l.heart.runs():
		return false // it was paused, and another works; or it is not known who does
	case l.leads:
		others = working // both believe it: one of them goes on
	case len(working) > 0, !l.listed(members), time.Since(l.view.Asked()) > l.opts.Timing.TTL:
		return false
	}
	return Assign(append(others, Member{Name: l.opts.Name, State: Live}), leadShard+1)[leadShard] == l.opts.Name
}
