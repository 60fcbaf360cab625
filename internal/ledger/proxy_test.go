package ledger

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A link is one connection through a proxy.
type link struct {
	client, server net.Conn
	dead           atomic.Bool // nothing of the server's reaches the client, not even its end
}

// The ways in which a client can be left without an answer to its COMMIT.
var cuts = []struct {
	name   string
	cut    func(p *proxy, l *link, commit []byte)
	lands  bool          // the COMMIT does, unknown to the client
	within time.Duration // Options.AnswerWithin
}{
	{"answer lost", func(_ *proxy, l *link, commit []byte) {
		l.dead.Store(true)
		l.server.Write(append(commit, terminate...))
		io.Copy(io.Discard, l.server) // it is done
		l.client.Close()
	}, true, time.Minute},
	{"commit lost", func(_ *proxy, l *link, _ []byte) {
		l.client.Close()
		l.server.Close()
	}, false, time.Minute},
	{"commit late", func(p *proxy, l *link, commit []byte) {
		l.client.Close()
		// The client tries again, and its second try comes before its first.
		eventually(p.t, "the next transaction waits", func() bool { return p.waiting() > 0 || p.isClosed() })
		l.server.Write(append(commit, terminate...))
	}, true, time.Minute},
	{"client's machine gone", func(_ *proxy, l *link, _ []byte) {
		l.client.Close() // and the server hears nothing
	}, false, 200 * time.Millisecond},
	{"link dead", func(_ *proxy, l *link, _ []byte) {
		l.dead.Store(true) // and nobody hears a thing
	}, false, 200 * time.Millisecond},
}

// terminate is the message that ends a session.
var terminate = []byte{'X', 0, 0, 0, 4}

// A proxy stands between a ledger and PostgreSQL, and cuts connections.
type proxy struct {
	t       testing.TB
	ln      net.Listener
	to      string
	waiting func() int // how many of the server's sessions wait for a lock
	wg      sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	conns   []net.Conn
	commits int
	every   int // which commits are cut: every one of so many; 0 for none
	cut     func(p *proxy, l *link, commit []byte)
	cuts    int // so far
}

// newProxy makes a proxy to the server of a dsn and returns the dsn through it.
func newProxy(t testing.TB, dsn string, waiting func() int) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, ln: ln, to: u.Host, waiting: waiting}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	u.Host = ln.Addr().String()
	return p, u.String()
}

func (p *proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		if !p.keep(client, server) {
			return
		}
		l := &link{client: client, server: server}
		p.wg.Go(func() { p.forward(l) })
		p.wg.Go(l.answer)
	}
}

// keep notes connections, and reports whether the proxy is still open.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conns...)
	if p.closed {
		for _, c := range conns {
			c.Close()
		}
	}
	return !p.closed
}

// answer copies what the server says. A server whose client is gone is heard
// out.
func (l *link) answer() {
	buf := make([]byte, 1<<16)
	for {
		n, err := l.server.Read(buf)
		switch {
		case l.dead.Load():
		case err != nil:
			l.client.Close()
		default:
			l.client.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// cutEvery cuts every n-th commit from now on.
func (p *proxy) cutEvery(n int, cut func(p *proxy, l *link, commit []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits, p.every, p.cut = 0, n, cut
}

// forward copies what a client says, until it is cut off.
func (p *proxy) forward(l *link) {
	buf := make([]byte, 1<<16)
	for {
		n, err := l.client.Read(buf)
		if err != nil {
			l.server.Close()
			return
		}
		if bytes.Contains(buf[:n], []byte("commit\x00")) && p.isCut() {
			p.cut(p, l, buf[:n])
			return
		}
		if _, err := l.server.Write(buf[:n]); err != nil {
			l.client.Close()
			return
		}
	}
}

func (p *proxy) isCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits++
	if p.every == 0 || p.commits%p.every != 0 {
		return false
	}
	p.cuts++
	return true
}

func (p *proxy) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.ln.Close()
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}
