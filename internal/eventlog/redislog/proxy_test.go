package redislog

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// A proxy stands between a store and a server, and cuts connections.
type proxy struct {
	l  net.Listener
	to string
	wg sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	word   []byte // cut the connection that a command with it comes over…
	before bool   // …before it is passed on; else before its reply is
	stay   bool   // and be down from then on
	cuts   int
	down   bool
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to, conns: make(map[net.Conn]struct{})}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.setDown(true)
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "redis://" + p.l.Addr().String() }

// cut has the next connection that a command with word comes over be cut,
// once. With stay, the proxy is down from then on.
func (p *proxy) cut(word string, before, stay bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.word, p.before, p.stay = []byte(word), before, stay
}

// count returns how many connections were cut.
func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// setDown cuts all connections and refuses new ones, or ends that.
func (p *proxy) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down = down; down {
		for c := range p.conns {
			c.Close()
		}
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		p.mu.Lock()
		if err != nil || p.down {
			client.Close()
			if err == nil {
				server.Close()
			}
			p.mu.Unlock()
			continue
		}
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		deaf := make(chan struct{}) // closed: pass no reply on
		p.wg.Go(func() { p.commands(client, server, deaf) })
		p.wg.Go(func() { p.replies(client, server, deaf) })
	}
}

func (p *proxy) commands(client, server net.Conn, deaf chan struct{}) {
	defer server.Close()
	buf := make([]byte, 1<<20)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		hit := p.word != nil && bytes.Contains(buf[:n], p.word)
		before, stay := p.before, p.stay
		if hit {
			p.word = nil
			p.cuts++
		}
		p.mu.Unlock()
		if hit && before {
			client.Close()
		} else {
			if hit {
				close(deaf)
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
		if hit && !before {
			_, _ = client.Read(buf) // until replies, which has seen the answer, closes it
		}
		if hit && stay {
			p.setDown(true)
		}
		if hit {
			return
		}
	}
}

func (p *proxy) isDown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

func (p *proxy) replies(client, server net.Conn, deaf chan struct{}) {
	defer client.Close()
	buf := make([]byte, 1<<20)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-deaf:
			return
		default:
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
