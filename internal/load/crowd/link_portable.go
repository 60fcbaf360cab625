package crowd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A portableLink has a goroutine a connection, for systems without epoll. What
// it hears waits until the loop has taken it.
type portableLink struct {
	loop  *loop
	ctx   context.Context
	stop  context.CancelFunc
	conns map[uint32]*portableConn // by slot; the loop's
	news  chan news
	bell  chan struct{}
	late  []news // of members that have resumed
	all   sync.WaitGroup
}

// A portableConn is one connection. It reads on when it gets a token.
type portableConn struct {
	handle
	ctx    context.Context
	cancel context.CancelFunc
	read   chan struct{}
	held   *news // heard while the member was stalled; the loop's

	mu   sync.Mutex
	conn net.Conn // nil before it is connected
}

// A news is what a connection's goroutine has to say.
type news struct {
	of     *portableConn
	b      []byte
	at     int64
	err    error
	opened bool
}

func newPortableLink(l *loop) *portableLink {
	k := &portableLink{loop: l, conns: map[uint32]*portableConn{}, news: make(chan news), bell: make(chan struct{}, 1)}
	k.ctx, k.stop = context.WithCancel(context.Background())
	return k
}

func (k *portableLink) close() {
	k.stop()
	k.all.Wait()
}

func (k *portableLink) wake() {
	select {
	case k.bell <- struct{}{}:
	default: // it rings already
	}
}

func (k *portableLink) dial(c handle, _ *member, to netip.AddrPort, small bool) error {
	p := &portableConn{handle: c, read: make(chan struct{}, 1)}
	p.ctx, p.cancel = context.WithCancel(k.ctx)
	k.conns[c.slot] = p
	k.all.Go(func() {
		defer p.cancel()
		if err := k.serve(p, to, small); err != nil {
			k.say(news{of: p, err: err})
		}
	})
	return nil
}

// serve connects and reads until the connection ends.
func (k *portableLink) serve(p *portableConn, to netip.AddrPort, small bool) error {
	conn, err := new(net.Dialer).DialContext(p.ctx, "tcp", to.String())
	if err != nil {
		return fmt.Errorf("crowd: connect: %w", err)
	}
	stop := context.AfterFunc(p.ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	if tcp := conn.(*net.TCPConn); small {
		_ = tcp.SetReadBuffer(smallBuffer) // one that fails is one that ends
	}
	p.mu.Lock()
	p.conn = conn
	p.mu.Unlock()
	if !k.say(news{of: p, opened: true}) {
		return nil
	}
	b := make([]byte, 16<<10)
	for {
		n, err := conn.Read(b)
		at := time.Now().UnixMicro()
		switch {
		case n > 0:
			if !k.say(news{of: p, b: b[:n], at: at}) {
				return nil
			}
		case errors.Is(err, io.EOF):
			return errEOF
		case err != nil:
			return fmt.Errorf("crowd: receive: %w", err)
		}
	}
}

// say hands news to the loop, and waits until it has taken them. It is false
// when the connection is over.
func (k *portableLink) say(n news) bool {
	select {
	case k.news <- n:
	case <-n.of.ctx.Done():
		return false
	}
	select {
	case <-n.of.read:
		return true
	case <-n.of.ctx.Done():
		return false
	}
}

func (k *portableLink) poll(wait time.Duration) {
	late := k.late
	k.late = nil
	for i := range late {
		k.take(&late[i])
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case n := <-k.news:
		k.take(&n)
	case <-k.bell:
	case <-t.C:
	}
	for range 64 { // and what there is besides
		select {
		case n := <-k.news:
			k.take(&n)
		default:
			return
		}
	}
}

func (k *portableLink) take(n *news) {
	m := k.loop.current(n.of.handle)
	switch {
	case m == nil: // hung up meanwhile
	case n.err != nil:
		k.loop.lost(n.of.handle, n.err)
	case n.opened:
		k.loop.opened(n.of.handle)
	case m.is(flagStalled):
		n.of.held = n
		return // and it reads no more
	default:
		k.loop.heard(n.of.handle, n.b, n.at)
	}
	n.of.read <- struct{}{}
}

func (k *portableLink) unpause(c handle, _ *member) {
	if p := k.conns[c.slot]; p != nil && p.handle == c && p.held != nil {
		k.late = append(k.late, *p.held)
		p.held = nil
	}
}

func (k *portableLink) send(c handle, _ *member, b []byte) error {
	p := k.conns[c.slot]
	p.conn.SetWriteDeadline(time.Now().Add(time.Second)) // a few bytes never wait but for who is stuck
	if _, err := p.conn.Write(b); err != nil {
		return errBlocked
	}
	return nil
}

func (k *portableLink) hangUp(c handle, _ *member, reset bool) {
	p := k.conns[c.slot]
	delete(k.conns, c.slot)
	p.mu.Lock()
	if tcp, ok := p.conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0) // one that fails is gone already
	}
	p.mu.Unlock()
	p.cancel()
}
