// Package balance is a layer-4 balancer for benchmarks on one machine: one
// address for clients, and behind it whichever servers there are, as a Service
// of Kubernetes or a load balancer of a cloud has it.
//
// A new connection goes to the server that has fewest. A server that is told of
// no more gets no new ones, and keeps those that it has until one side ends
// them. It looks into nothing, and tries no connection twice: one that its
// server refuses is reset, and counted.
package balance

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Counts are what a Balancer did.
type Counts struct {
	Accepted int64          `json:"accepted"`
	Refused  int64          `json:"refused"` // reset, for there was no server, or it took none
	Open     map[string]int `json:"open"`    // connections, by server
}

// A Balancer passes connections on. Its methods may be called concurrently.
type Balancer struct {
	ln     net.Listener
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // of all goroutines

	mu       sync.Mutex
	servers  map[string]*server
	accepted int64
	refused  int64
}

// A server is one that gets connections, or has some still.
type server struct {
	addr  string
	ready bool
	open  int
}

// dialWithin bounds how long a server may take to accept.
const dialWithin = 5 * time.Second

// Listen returns a balancer on an address, host:port, without servers.
func Listen(addr string) (*Balancer, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	b := &Balancer{ln: ln, servers: map[string]*server{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.wg.Go(b.accept)
	return b, nil
}

// Addr is where clients connect, host:port.
func (b *Balancer) Addr() string { return b.ln.Addr().String() }

// Set says which servers get new connections from now on, host:port each.
func (b *Balancer) Set(addrs []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.servers {
		s.ready = slices.Contains(addrs, s.addr)
	}
	for _, a := range addrs {
		if b.servers[a] == nil {
			b.servers[a] = &server{addr: a, ready: true}
		}
	}
	for _, s := range b.servers {
		b.forget(s)
	}
}

// forget drops a server that gets none and has none.
func (b *Balancer) forget(s *server) {
	if !s.ready && s.open == 0 {
		delete(b.servers, s.addr)
	}
}

// Counts returns what was done so far, and what is open.
func (b *Balancer) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := Counts{Accepted: b.accepted, Refused: b.refused, Open: map[string]int{}}
	for _, s := range b.servers {
		c.Open[s.addr] = s.open
	}
	return c
}

// Close ends the listener and all connections, and waits for them.
func (b *Balancer) Close() error {
	err := b.ln.Close()
	b.cancel()
	b.wg.Wait()
	return err
}

func (b *Balancer) accept() {
	for {
		c, err := b.ln.Accept()
		switch {
		case err == nil:
			b.wg.Go(func() { b.pass(c.(*net.TCPConn)) })
		case errors.Is(err, net.ErrClosed):
			return
		default: // of no descriptors, above all
			select {
			case <-b.ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}

// take chooses the server of a new connection, and counts it; nil if there is
// none.
func (b *Balancer) take() *server {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accepted++
	var best *server
	for _, s := range b.servers {
		if s.ready && (best == nil || s.open < best.open || s.open == best.open && s.addr < best.addr) {
			best = s
		}
	}
	if best != nil {
		best.open++
	}
	return best
}

func (b *Balancer) done(s *server, refused bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if refused {
		b.refused++
	}
	if s != nil {
		s.open--
		b.forget(s)
	}
}

// pass carries one connection until both sides have ended it.
func (b *Balancer) pass(client *net.TCPConn) {
	defer client.Close()
	s := b.take()
	var conn net.Conn
	err := errors.New("nobody is ready")
	if s != nil {
		conn, err = (&net.Dialer{Timeout: dialWithin}).DialContext(b.ctx, "tcp", s.addr)
	}
	if err != nil {
		b.done(s, b.ctx.Err() == nil)
		_ = client.SetLinger(0) // a reset, as if nobody had listened
		return
	}
	defer b.done(s, false)
	defer conn.Close()
	stop := context.AfterFunc(b.ctx, func() { client.Close(); conn.Close() })
	defer stop()
	up := conn.(*net.TCPConn)
	var both sync.WaitGroup
	both.Go(func() { carry(up, client, upBytes) })
	both.Go(func() { carry(client, up, downBytes) })
	both.Wait()
}

// What is read at once: requests are small, and deliveries are not.
const (
	upBytes   = 2 << 10
	downBytes = 16 << 10
)

// carry copies until from ends, and then ends to's other half. A connection
// that broke takes both sides with it, or neither would hear of it.
func carry(to, from *net.TCPConn, bytes int) {
	// Hidden behind plain interfaces, for splice(2) holds a pipe, two files, for
	// as long as it waits.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, bytes))
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		_ = from.SetLinger(0) // it may have ended
		_ = to.SetLinger(0)
		from.Close()
		to.Close()
	}
}
