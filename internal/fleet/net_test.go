package fleet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A fakeNet is a network in memory, whose hosts can be paused, cut off and
// killed. Bytes that were sent to a paused host are read when it wakes.
type fakeNet struct {
	mu    sync.Mutex
	hosts map[string]*fakeHost
}

func newFakeNet() *fakeNet { return &fakeNet{hosts: map[string]*fakeHost{}} }

// A fakeHost is one life of a process, as a network sees it.
type fakeHost struct {
	net  *fakeNet
	name string

	mu      sync.Mutex
	dead    bool
	cut     bool          // nothing gets in or out, and nobody is told
	running chan struct{} // closed while the process is not paused
	accept  chan net.Conn // nil: nobody listens
	conns   map[*fakeConn]bool
	died    chan struct{}
}

// host makes a process of that name, in place of one that has ended.
func (n *fakeNet) host(name string) *fakeHost {
	h := &fakeHost{net: n, name: name, running: make(chan struct{}), conns: map[*fakeConn]bool{}, died: make(chan struct{})}
	close(h.running)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[name] = h
	return h
}

func (h *fakeHost) pause() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.paused() {
		h.running = make(chan struct{})
	}
}

func (h *fakeHost) resume() {
	h.mu.Lock()
	if h.paused() {
		close(h.running)
	}
	h.mu.Unlock()
	h.poke()
}

// paused reports whether the process is. mu is held.
func (h *fakeHost) paused() bool {
	select {
	case <-h.running:
		return false
	default:
		return true
	}
}

func (h *fakeHost) setCut(cut bool) {
	h.mu.Lock()
	h.cut = cut
	h.mu.Unlock()
	h.poke()
}

// poke has both ends of each connection look again.
func (h *fakeHost) poke() {
	for _, c := range h.open() {
		c.in.poke()
		c.peer.in.poke()
	}
}

func (h *fakeHost) open() (conns []*fakeConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		conns = append(conns, c)
	}
	return conns
}

// held reports whether nothing gets in or out now.
func (h *fakeHost) held() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cut || h.paused()
}

// kill ends the process: its connections break, and its address refuses.
func (h *fakeHost) kill() {
	h.mu.Lock()
	if h.dead {
		h.mu.Unlock()
		return
	}
	h.dead = true
	close(h.died)
	h.mu.Unlock()
	h.resume()
	h.breakAll()
}

// breakAll breaks the connections of a process that goes on.
func (h *fakeHost) breakAll() {
	for _, c := range h.open() {
		c.Close()
	}
}

var errDead = errors.New("the process was killed")

// alive waits while the process is paused.
func (h *fakeHost) alive(ctx context.Context) error {
	h.mu.Lock()
	running, dead := h.running, h.dead
	h.mu.Unlock()
	if dead {
		return errDead
	}
	select {
	case <-running:
	case <-h.died:
		return errDead
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (h *fakeHost) isCut() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cut
}

// listen returns the listener of the process.
func (h *fakeHost) listen() net.Listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accept = make(chan net.Conn, 64)
	return (*fakeListener)(h)
}

type fakeListener fakeHost

func (l *fakeListener) Accept() (net.Conn, error) {
	h := (*fakeHost)(l)
	select {
	case c := <-h.accept:
		return c, nil
	case <-h.died:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error {
	(*fakeHost)(l).kill()
	return nil
}
func (l *fakeListener) Addr() net.Addr { return fakeAddr(l.name) }

type fakeAddr string

func (fakeAddr) Network() string  { return "fake" }
func (a fakeAddr) String() string { return string(a) }

// dial opens a connection from this process.
func (h *fakeHost) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	if err := h.alive(ctx); err != nil {
		return nil, err
	}
	h.net.mu.Lock()
	to := h.net.hosts[addr]
	h.net.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	if to == nil {
		return nil, refused
	}
	if h.isCut() || to.isCut() {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(dialWithin):
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
		}
	}
	a := &fakeConn{host: h, in: newPipe()}
	b := &fakeConn{host: to, in: newPipe()}
	a.peer, b.peer = b, a
	// One lock at a time: two hosts may dial each other.
	h.mu.Lock()
	h.conns[a] = true
	h.mu.Unlock()
	if !to.take(b) {
		h.mu.Lock()
		delete(h.conns, a)
		h.mu.Unlock()
		return nil, refused
	}
	return a, nil
}

// take has the host accept a connection, and reports whether it does.
func (h *fakeHost) take(c *fakeConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead || h.accept == nil {
		return false
	}
	select {
	case h.accept <- c:
		h.conns[c] = true
		return true
	default:
		return false
	}
}

// A fakeConn is one end of a connection.
type fakeConn struct {
	host *fakeHost
	peer *fakeConn
	in   *pipe
}

func (c *fakeConn) held() bool { return c.host.held() || c.peer.host.held() }

func (c *fakeConn) Read(b []byte) (int, error) { return c.in.read(b, c.held) }

// Write never waits: what a paused host writes is read when it wakes. (It may
// be called under a lock, and time does not go on in a bubble where somebody
// waits for a lock.)
func (c *fakeConn) Write(b []byte) (int, error) { return c.peer.in.write(b) }

func (c *fakeConn) Close() error {
	c.in.close(io.ErrClosedPipe)
	c.peer.in.close(syscall.ECONNRESET)
	c.host.mu.Lock()
	delete(c.host.conns, c)
	c.host.mu.Unlock()
	return nil
}

func (c *fakeConn) LocalAddr() net.Addr                { return fakeAddr(c.host.name) }
func (c *fakeConn) RemoteAddr() net.Addr               { return fakeAddr(c.peer.host.name) }
func (c *fakeConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *fakeConn) SetReadDeadline(t time.Time) error  { c.in.deadline(t); return nil }
func (c *fakeConn) SetWriteDeadline(_ time.Time) error { return nil }

// A pipe is one direction of a connection, with a buffer that has no end.
type pipe struct {
	mu   sync.Mutex
	buf  []byte
	err  error
	by   time.Time
	wake chan struct{} // closed, and made anew, at each change
}

func newPipe() *pipe { return &pipe{wake: make(chan struct{})} }

// changed wakes whoever reads. mu is held.
func (p *pipe) changed() {
	close(p.wake)
	p.wake = make(chan struct{})
}

func (p *pipe) poke() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed()
}

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, syscall.EPIPE
	}
	p.buf = append(p.buf, b...)
	p.changed()
	return len(b), nil
}

func (p *pipe) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil || errors.Is(err, io.ErrClosedPipe) { // what this end does needs no network
		p.err = err
	}
	p.changed()
}

func (p *pipe) deadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.by = t
	p.changed()
}

func (p *pipe) read(b []byte, heldBack func() bool) (int, error) {
	for {
		held := heldBack()
		p.mu.Lock()
		wake, by := p.wake, p.by
		switch {
		case len(p.buf) > 0 && !held:
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			p.mu.Unlock()
			return n, nil
		case p.err != nil && (!held || errors.Is(p.err, io.ErrClosedPipe)):
			defer p.mu.Unlock()
			return 0, p.err
		}
		p.mu.Unlock()
		if by.IsZero() {
			<-wake
			continue
		}
		left := time.Until(by)
		if left <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		t := time.NewTimer(left)
		select {
		case <-wake:
		case <-t.C:
		}
		t.Stop()
	}
}
