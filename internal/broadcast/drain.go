package broadcast

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/gobwas/ws"
)

// enter counts a client in, and exit counts it out. One who comes when stop has
// already looked for clients is told by itself.
func (d *deliverer) enter(p peer) {
	d.mu.Lock()
	d.peers[p] = struct{}{}
	d.mu.Unlock()
	d.hub.mu.RLock()
	stopped := d.hub.stopped
	d.hub.mu.RUnlock()
	if stopped {
		p.end(false)
	}
}

func (d *deliverer) exit(p peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.peers, p)
}

// peers returns all clients that there are now.
func (h *Hub) peers() []peer {
	var ps []peer
	for _, d := range h.deliverers {
		d.mu.Lock()
		for p := range d.peers {
			ps = append(ps, p)
		}
		d.mu.Unlock()
	}
	return h.loops.Load().peers(ps)
}

// checks has every connection look at the clock now and then, until ctx ends:
// one timer for all, instead of one each.
func (h *Hub) checks(ctx context.Context) {
	o := &h.opts
	every := time.NewTicker(max(min(o.PingEvery/8, o.DeadAfter/8, o.HelloWithin/8, o.StuckFor/8, o.BatchWithin/8, closeWithin/2), time.Millisecond))
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-every.C:
			h.loops.Load().check()
			for _, d := range h.deliverers {
				for _, c := range d.conns() {
					c.check(now)
				}
			}
		}
	}
}

// Drain tells every client to reconnect elsewhere, spread over the first half
// of within, closes those that are still there when within has passed, and
// returns when all are gone. From its start on nobody new is taken. What
// clients are told leaves them the last quarter: whoever goes at the last moment
// that they were given, by a clock that began a network's way later, must not
// find that they were closed.
func (h *Hub) Drain(within time.Duration) {
	h.draining.Store(true)
	over := time.Now().Add(within)
	told := over.Add(-within / 4)
	ps := h.peers()
	const steps = 50
	for i := range steps {
		part := ps[len(ps)*i/steps : len(ps)*(i+1)/steps]
		for _, p := range part {
			p.drain(max(0, time.Until(told)))
		}
		if len(part) > 0 && i < steps-1 && within > 0 {
			time.Sleep(within / (2 * steps))
		}
	}
	for time.Now().Before(over) && len(h.peers()) > 0 {
		time.Sleep(min(10*time.Millisecond, time.Until(over)))
	}
	h.endAll()
}

// stop closes every client and waits until they are gone. From then on nobody
// is taken.
func (h *Hub) stop() {
	h.mu.Lock()
	h.stopped = true
	h.mu.Unlock()
	h.endAll()
	h.serving.Wait()
}

// endAll says goodbye to every client, and a moment later hangs up on those
// that are still there.
func (h *Hub) endAll() {
	for _, p := range h.peers() {
		p.end(false)
	}
	for over := time.Now().Add(2 * closeWithin); time.Now().Before(over) && len(h.peers()) > 0; {
		time.Sleep(5 * time.Millisecond)
	}
	for _, p := range h.peers() {
		p.end(true)
	}
}

// refuse ends a connection that nobody takes: come again, or go elsewhere.
func refuse(nc net.Conn, err error) {
	code, reason := ws.StatusCode(1013), "try again later" // IANA's WebSocket close codes
	if errors.Is(err, ErrDraining) {
		code, reason = 1012, "service restart"
	}
	nc.SetWriteDeadline(time.Now().Add(closeWithin))
	_, _ = nc.Write(ownFrame(ws.OpClose, ws.NewCloseFrameBody(code, reason)))
	nc.Close()
}
