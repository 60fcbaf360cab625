//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/veltrix/cairn/bench/autoscale/balance"
	"github.com/veltrix/cairn/bench/autoscale/monitor"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/lab"
)

const (
	probeEvery  = 250 * time.Millisecond // whether a process is ready
	probeWithin = 2 * time.Second
	// endWithin is what Kubernetes gives a gateway (terminationGracePeriodSeconds
	// less preStop); one that takes longer is killed, which is an error here.
	endWithin = 40 * time.Second
)

// pods are the processes of a role, as a Deployment or a StatefulSet has them.
type pods struct {
	// Static.
	role     string
	fleet    *lab.Fleet
	monitor  *monitor.Monitor
	balancer *balance.Balancer // that the ready ones get clients from; nil for none
	preStop  time.Duration     // from when one is taken out of the balancer until it is told to end
	fail     func(error)
	wg       sync.WaitGroup // of each pod's goroutine

	mu     sync.Mutex
	all    []*pod // oldest first
	starts []time.Duration
	ends   []time.Duration
}

// A pod is one process, from its start until it has ended.
type pod struct {
	process *lab.Role     // nil until it can be reached
	ready   bool          // says so
	leaving bool          // is to end
	end     chan struct{} // closed when it is to
}

// adopt takes a process that runs already.
func (p *pods) adopt(ctx context.Context, r *lab.Role) {
	p.run(ctx, &pod{process: r, end: make(chan struct{})})
}

// run has a goroutine see to a pod.
func (p *pods) run(ctx context.Context, x *pod) {
	p.mu.Lock()
	p.all = append(p.all, x)
	p.mu.Unlock()
	p.wg.Go(func() {
		if err := p.live(ctx, x); err != nil && ctx.Err() == nil {
			p.fail(err)
		}
	})
}

// scale starts or ends pods until there are so many: those go that came last,
// which is whom a StatefulSet takes, and a Deployment as a rule.
func (p *pods) scale(ctx context.Context, to int) {
	p.mu.Lock()
	have := p.staying()
	for _, x := range slices.Backward(p.all) {
		if have > to && !x.leaving {
			x.leaving = true
			close(x.end)
			have--
		}
	}
	p.mu.Unlock()
	for ; have < to; have++ {
		p.run(ctx, &pod{end: make(chan struct{})})
	}
}

// staying returns how many are not on their way out. p.mu is held.
func (p *pods) staying() (n int) {
	for _, x := range p.all {
		if !x.leaving {
			n++
		}
	}
	return n
}

// A headcount is how many pods there are.
type headcount struct {
	wanted  int // that are to stay
	running int // all processes, those that start or end too
	ready   int // of those that are to stay
}

func (p *pods) count() headcount {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := headcount{wanted: p.staying(), running: len(p.all)}
	for _, x := range p.all {
		if x.ready && !x.leaving {
			h.ready++
		}
	}
	return h
}

// live is the life of a pod: it starts, serves, and ends when it is told to, or
// when ctx ends, which leaves its process to whoever drains the fleet.
func (p *pods) live(ctx context.Context, x *pod) error {
	began := time.Now()
	if x.process == nil {
		r, err := p.fleet.Start(ctx, p.role)
		if err != nil {
			return err
		}
		p.mu.Lock()
		x.process = r
		p.mu.Unlock()
	}
	if err := p.publish(); err != nil {
		return err
	}
	leave, err := p.serve(ctx, x, began)
	if err != nil || !leave {
		return err
	}
	if err := p.publish(); err != nil { // nobody new comes
		return err
	}
	if p.balancer != nil && program.Sleep(ctx, p.preStop) != nil {
		return nil
	}
	told := time.Now()
	within, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	if err := x.process.Terminate(within); err != nil {
		return fmt.Errorf("%s does not end in good order: %w", x.process.Name, err)
	}
	p.mu.Lock()
	p.ends = append(p.ends, time.Since(told))
	p.all = slices.DeleteFunc(p.all, func(y *pod) bool { return x == y })
	p.mu.Unlock()
	return p.publish()
}

// serve follows whether a pod is ready, until it is to leave or ctx ends.
func (p *pods) serve(ctx context.Context, x *pod, began time.Time) (leave bool, err error) {
	first := true
	for tick := time.NewTicker(probeEvery); ; {
		within, cancel := context.WithTimeout(ctx, probeWithin)
		ready, _ := x.process.Ready(within)
		cancel()
		if ready != x.ready {
			p.mu.Lock()
			x.ready = ready
			if ready && first {
				p.starts = append(p.starts, time.Since(began))
				first = false
			}
			p.mu.Unlock()
			if err := p.publish(); err != nil {
				return false, err
			}
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return false, nil
		case <-x.end:
			tick.Stop()
			return true, nil
		case <-x.process.Done():
			tick.Stop()
			return false, fmt.Errorf("%s ended by itself; its log ends:\n%s", x.process.Name, x.process.Tail(15))
		case <-tick.C:
		}
	}
}

// publish tells Prometheus whom there is to scrape, and the balancer who is
// ready.
func (p *pods) publish() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	targets := map[string]string{}
	var ready []string
	for _, x := range p.all {
		if x.process == nil {
			continue
		}
		targets[x.process.Name] = x.process.Admin
		if x.ready && !x.leaving {
			ready = append(ready, x.process.Listen)
		}
	}
	if p.balancer != nil {
		p.balancer.Set(ready)
	}
	return p.monitor.Targets(p.role, targets)
}

// times returns how long pods took to be ready, and to end.
func (p *pods) times() (starts, ends []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.starts), slices.Clone(p.ends)
}

// await waits until there are just so many pods, all ready.
func (p *pods) await(ctx context.Context, n int) error {
	for {
		if h := p.count(); h == (headcount{n, n, n}) {
			return nil
		}
		if program.Sleep(ctx, probeEvery) != nil {
			return errors.Join(ctx.Err(), context.Cause(ctx))
		}
	}
}
