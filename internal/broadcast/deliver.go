package broadcast

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
)

// A listener is the connection half, as the sweep sees it.
type listener interface {
	// wake says that a view it is a member of has something new. It is called
	// by a deliverer, for one listener after the other: it must not block.
	wake()
}

// A peer is one client: a connection or a subscription.
type peer interface {
	// drain tells the client to go elsewhere within left.
	drain(left time.Duration)

	// end ends the client's connection, at once if now.
	end(now bool)
}

// A recipient delivers what a sweep has to its share of the connections.
type recipient interface {
	// sweep says which views changed, and at of the newest claim among them,
	// or 0. It never blocks.
	sweep(views []*view, newest cairn.Instant)

	// rested reports whether all is delivered.
	rested() bool
}

// recipients calls f for each of them.
func (h *Hub) recipients(f func(recipient)) {
	for _, d := range h.deliverers {
		f(d)
	}
	h.loops.Load().each(f)
}

// rest says that a recipient may have delivered all.
func (h *Hub) rest() {
	select {
	case h.calm <- struct{}{}:
	default:
	}
}

// A deliverer wakes its share of the connections after each sweep.
type deliverer struct {
	hub    *Hub
	signal chan struct{} // never closed; one token says that there is work
	busy   atomic.Bool   // a sweep is not delivered yet

	mu      sync.Mutex // guards what follows
	members map[*view][]*cursor
	peers   map[peer]struct{}
	views   []*view       // that changed and wait for run
	newest  cairn.Instant // at of the newest claim in them
}

func newDeliverer(h *Hub) *deliverer {
	return &deliverer{hub: h, signal: make(chan struct{}, 1), members: map[*view][]*cursor{}, peers: map[peer]struct{}{}}
}

// sweep implements recipient.
func (d *deliverer) sweep(views []*view, newest cairn.Instant) {
	d.mu.Lock()
	late := len(d.views) > 0 // the sweep before is not taken up yet
	for _, v := range views {
		if len(d.members[v]) > 0 {
			d.views = append(d.views, v)
		}
	}
	if late {
		d.views = distinct(d.views)
	}
	d.newest = max(d.newest, newest)
	idle := len(d.views) == 0
	if !idle {
		d.busy.Store(true)
	}
	d.mu.Unlock()
	if idle {
		return
	}
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

// distinct returns views without those that came before.
func distinct(views []*view) []*view {
	seen := make(map[*view]struct{}, len(views))
	return slices.DeleteFunc(views, func(v *view) bool {
		_, twice := seen[v]
		seen[v] = struct{}{}
		return twice
	})
}

// run wakes connections until ctx ends.
func (d *deliverer) run(ctx context.Context) {
	var due []*cursor
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.signal:
			due = d.deliver(due[:0])
			d.mu.Lock()
			d.busy.Store(len(d.views) > 0)
			d.mu.Unlock()
			d.hub.rest()
		}
	}
}

// rested implements recipient.
func (d *deliverer) rested() bool { return !d.busy.Load() }

// conns returns its connections.
func (d *deliverer) conns() []*conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	var cs []*conn
	for p := range d.peers {
		if c, ok := p.(*conn); ok {
			cs = append(cs, c)
		}
	}
	return cs
}

// deliver wakes the members of every view that changed. It uses due as room
// for them, and returns it.
func (d *deliverer) deliver(due []*cursor) []*cursor {
	d.mu.Lock()
	for _, v := range d.views {
		due = append(due, d.members[v]...)
	}
	clear(d.views)
	d.views = d.views[:0]
	newest := d.newest
	d.newest = 0
	d.mu.Unlock()

	for _, c := range due {
		c.listener.wake()
	}
	if newest != 0 && len(due) > 0 {
		d.hub.metrics.staleness.Observe(cairn.InstantOf(d.hub.opts.Now()).Sub(newest).Seconds())
	}
	clear(due)
	return due
}

// join makes c a member of its view: from now on it is woken.
func (d *deliverer) join(c *cursor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.at = len(d.members[c.view])
	d.members[c.view] = append(d.members[c.view], c)
}

// leave undoes join. A wake that is under way may still come.
func (d *deliverer) leave(c *cursor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	cs := d.members[c.view]
	last := cs[len(cs)-1]
	cs[c.at], last.at = last, c.at
	cs[len(cs)-1] = nil
	if cs = cs[:len(cs)-1]; len(cs) == 0 {
		delete(d.members, c.view)
	} else {
		d.members[c.view] = cs
	}
}
