package ledger

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// A cut is what a proxy does to a connection when a COMMIT comes by.
type cut func(p *proxy, client, server net.Conn, commit []byte)

// The ways in which a client can be left without an answer to its COMMIT.
var cuts = []struct {
	name string
	cut  cut
}{
	{"answer lost", func(_ *proxy, client, server net.Conn, commit []byte) {
		client.(*net.TCPConn).CloseWrite() // the answer comes, and has nowhere to go
		server.Write(append(commit, terminate...))
	}},
	{"commit lost", func(_ *proxy, client, server net.Conn, _ []byte) {
		client.Close()
		server.Close()
	}},
	{"commit late", func(p *proxy, client, server net.Conn, commit []byte) {
		client.Close()
		// The client tries again, and its second try comes before its first.
		eventually(p.t, "the next transaction waits", func() bool { return p.waiting() > 0 || p.isClosed() })
		server.Write(append(commit, terminate...))
	}},
	{"client's machine gone", func(_ *proxy, client, _ net.Conn, _ []byte) {
		client.Close() // and the server hears nothing
	}},
	{"link dead", func(*proxy, net.Conn, net.Conn, []byte) {}}, // and nobody hears a thing
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
	cut     cut
	cuts    int // so far
}

// newProxy makes a proxy to the server of a dsn and returns the dsn through it.
func newProxy(t testing.TB, dsn string, waiting func() int, every int, c cut) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, ln: ln, to: u.Host, waiting: waiting, every: every, cut: c}
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
		p.wg.Go(func() { p.forward(client, server) })
		p.wg.Go(func() {
			defer client.Close()
			io.Copy(client, server)
			io.Copy(io.Discard, server) // the client is gone
		})
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

// forward copies what a client says, until it is cut off.
func (p *proxy) forward(client, server net.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := client.Read(buf)
		if err != nil {
			server.Close()
			return
		}
		if bytes.Contains(buf[:n], []byte("commit\x00")) && p.isCut() {
			p.cut(p, client, server, buf[:n])
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			client.Close()
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
