package e2e_test

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// A proxy stands before a game, and may lose connections: amid a
// frame, without a word, by a reset, or before they are made.
type proxy struct {
	ln net.Listener
	to string

	mu     sync.Mutex
	rng    *rand.Rand
	rough  bool // new connections meet a fate
	links  map[*link]struct{}
	closed bool
	cuts   int // connections that met one
	all    sync.WaitGroup
}

// A link is a connection through the proxy.
type link struct {
	proxy          *proxy
	client, server net.Conn

	mu   sync.Mutex
	left int // bytes that the client gets yet; negative: no end
	how  fate
}

// A fate is how a link ends.
type fate int

const (
	cut   fate = iota // both ends are closed
	reset             // the client gets a RST
	stall             // nothing moves for a while, and then it is reset
	fates
)

// stallFor is longer than the silence that the test's clients bear.
const stallFor = 4 * time.Second

// newProxy starts a proxy before an address. Its faults are drawn from the
// seed, in the order in which connections come.
func newProxy(t testing.TB, to string, seed uint64) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	px := &proxy{ln: ln, to: to, rng: rand.New(rand.NewPCG(seed, 1)), links: map[*link]struct{}{}}
	px.all.Go(px.accept)
	t.Cleanup(px.close)
	return px
}

func (px *proxy) address() string { return px.ln.Addr().String() }

// be makes the proxy rough or calm. Links that are to end in calm times don't.
func (px *proxy) be(rough bool) {
	px.mu.Lock()
	defer px.mu.Unlock()
	px.rough = rough
	for l := range px.links {
		l.mu.Lock()
		if !rough {
			l.left = -1
		}
		l.mu.Unlock()
	}
}

// cutAfter ends every link there is once its client got so many more bytes.
func (px *proxy) cutAfter(bytes int) {
	px.mu.Lock()
	defer px.mu.Unlock()
	for l := range px.links {
		l.mu.Lock()
		l.left, l.how = bytes, cut
		l.mu.Unlock()
	}
}

// met returns how many connections met a fate.
func (px *proxy) met() int {
	px.mu.Lock()
	defer px.mu.Unlock()
	return px.cuts
}

func (px *proxy) close() {
	px.mu.Lock()
	px.closed = true
	for l := range px.links {
		l.close()
	}
	px.mu.Unlock()
	px.ln.Close()
	px.all.Wait()
}

func (px *proxy) accept() {
	for {
		client, err := px.ln.Accept()
		if err != nil {
			return
		}
		px.mu.Lock()
		refused := px.rough && px.rng.IntN(4) == 0
		l := &link{proxy: px, client: client, left: -1}
		if px.rough {
			// Some end amid the handshake, some after the first snapshot, few live long.
			l.left, l.how = int(px.rng.ExpFloat64()*20_000), fate(px.rng.IntN(int(fates)))
		}
		px.mu.Unlock()
		if refused {
			px.fallen()
			client.Close()
			continue
		}
		px.all.Go(l.run)
	}
}

// fallen counts a connection that met its fate.
func (px *proxy) fallen() {
	px.mu.Lock()
	px.cuts++
	px.mu.Unlock()
}

// run carries bytes both ways until one end or fate closes the link.
func (l *link) run() {
	defer l.client.Close()
	server, err := net.Dial("tcp", l.proxy.to)
	if err != nil {
		return
	}
	l.server = server
	defer server.Close()
	l.proxy.mu.Lock()
	if l.proxy.closed {
		l.proxy.mu.Unlock()
		return
	}
	l.proxy.links[l] = struct{}{}
	l.proxy.mu.Unlock()
	defer func() {
		l.proxy.mu.Lock()
		delete(l.proxy.links, l)
		l.proxy.mu.Unlock()
	}()
	l.proxy.all.Go(func() {
		io.Copy(server, l.client)
		server.Close()
	})
	buf := make([]byte, 4096)
	for {
		k, err := server.Read(buf)
		may, over := l.take(k)
		if _, werr := l.client.Write(buf[:may]); werr != nil || err != nil {
			return
		}
		if over {
			l.end()
			return
		}
	}
}

// take returns how many of k bytes the client may get, and whether the link
// ends then.
func (l *link) take(k int) (may int, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left < 0 || k == 0 {
		return k, false
	}
	may = min(k, l.left)
	l.left -= may
	return may, l.left == 0
}

// end ends the link as is its fate.
func (l *link) end() {
	l.proxy.fallen()
	l.mu.Lock()
	how := l.how
	l.mu.Unlock()
	if how == stall {
		wait := time.NewTimer(stallFor)
		defer wait.Stop()
		<-wait.C
	}
	if how != cut {
		l.client.(*net.TCPConn).SetLinger(0)
	}
}

func (l *link) close() {
	l.client.Close()
	l.server.Close()
}
