package broadcast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn"
)

// closeWithin is how long a connection that was told goodbye may take to say
// it back.
const closeWithin = time.Second

// statusTooSlow is the close code of a client that took no byte for too long.
const statusTooSlow ws.StatusCode = 4008

// Why connections end, as metrics name it.
const (
	endClient    = "client"    // it closed
	endLost      = "lost"      // its socket failed
	endProtocol  = "protocol"  // it broke the protocol
	endSlow      = "too_slow"  // it took no byte for too long
	endSilent    = "silent"    // it answered no ping
	endHandshake = "handshake" // no hello in time, or one that was refused
	endServer    = "server"    // this process ends
)

// A conn is one WebSocket over a net.Conn, where there is no readiness to go by:
// under TLS, and on systems without epoll. It has a goroutine that reads, and
// none that writes while there is nothing to write. Whoever has something for
// it calls kick, which writes as much as the socket takes without waiting; only
// a connection that would have to wait, or needs a snapshot, gets a goroutine
// until it is through.
type conn struct {
	// Static after newConn.
	hub    *Hub
	codec  Codec
	nc     net.Conn
	raw    syscall.RawConn // nil if nc can't be tried without waiting
	socket bool            // a write that timed out can be gone on with: not so under TLS
	del    *deliverer
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing is written any more

	session session      // owned by the reading goroutine
	heard   atomic.Int64 // when the last bytes came, in nanoseconds since 1970

	mu      sync.Mutex
	writing bool       // someone is in write
	again   bool       // it is to look again before it leaves
	ended   bool       // the socket is closed: nothing can be written
	own     [][]byte   // whole frames for this client alone, at most ownMax
	greeted bool       // it said hello and is to be welcomed
	watches []watching // asked for and not yet taken up
	pinged  time.Time  // when it was last sent a ping; zero before hello
	bye     []byte     // the close frame, the last to be written; nil while open
	why     string     // the bye's reason, for metrics
	cause   error      // how the connection ended; nil if all went the protocol's way

	// Owned by whoever set writing.
	feed    feed
	told    *life       // whose epoch the client knows
	frames  []*frame    // shared ones in flight
	size    int         // of all that is in flight, in bytes
	bufs    net.Buffers // what of it is not written yet
	room    [][]byte    // backs bufs
	sentBye bool        // the close frame is in flight or written
	attempt attempt
}

var _ outlet = (*conn)(nil)

func newConn(h *Hub, d *deliverer, nc net.Conn, codec Codec, edge Edge) *conn {
	c := &conn{hub: h, codec: codec, nc: nc, del: d, done: make(chan struct{})}
	c.session = session{hub: h, out: c, codec: codec, edge: edge}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.feed = feed{hub: h, del: d}
	_, c.socket = nc.(syscall.Conn)
	c.raw = rawConn(nc)
	c.attempt.init()
	c.heard.Store(time.Now().UnixNano())
	return c
}

// life implements outlet.
func (c *conn) life() context.Context { return c.ctx }

// greet implements outlet.
func (c *conn) greet() {
	c.nc.SetReadDeadline(time.Time{})
	c.mu.Lock()
	late := c.bye != nil // the deadline of a goodbye must stand
	c.greeted, c.pinged = true, time.Now().Add(-rand.N(c.hub.opts.PingEvery))
	c.mu.Unlock()
	if late {
		c.nc.SetReadDeadline(time.Now().Add(closeWithin))
	}
	c.kick()
}

// watch implements outlet.
func (c *conn) watch(w watching) bool {
	c.mu.Lock()
	c.watches = append(c.watches, w)
	waiting := len(c.watches)
	c.mu.Unlock()
	c.kick()
	return waiting <= c.hub.ownMax()
}

// send implements outlet.
func (c *conn) send(b []byte) {
	c.mu.Lock()
	if len(c.own) >= c.hub.ownMax() {
		c.mu.Unlock()
		c.say(statusTooSlow, "too slow", endSlow, errTooSlow)
		return
	}
	if c.bye == nil && !c.ended {
		c.own = append(c.own, b)
	}
	c.mu.Unlock()
	c.kick()
}

// reply implements outlet.
func (c *conn) reply(payload []byte) { c.send(c.codec.whole(payload)) }

// What ends connections.
var (
	errTooSlow = errors.New("broadcast: client is too slow")
	errNoHello = errors.New("broadcast: no hello in time")
	errLost    = errors.New("broadcast: connection lost: unexpected EOF")
)

func errSilent(d time.Duration) error { return fmt.Errorf("broadcast: client silent for %v", d) }

// say implements outlet.
func (c *conn) say(code ws.StatusCode, reason, why string, cause error) {
	c.mu.Lock()
	if c.bye == nil && !c.ended {
		c.bye = ownFrame(ws.OpClose, ws.NewCloseFrameBody(code, reason))
		c.why, c.cause = why, cause
	}
	c.mu.Unlock()
	c.kick()
}

// cut is hangUp for a client that won't take what it was sent: the system is to
// forget that at once.
func (c *conn) cut(why string, cause error) {
	nc := c.nc
	if s, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		nc = s.NetConn()
	}
	if s, ok := nc.(interface{ SetLinger(sec int) error }); ok {
		_ = s.SetLinger(0)
	}
	c.hangUp(why, cause)
}

// hangUp closes the socket: the client is gone or must go.
func (c *conn) hangUp(why string, cause error) {
	c.mu.Lock()
	if c.bye == nil && !c.ended { // before the reader finds the socket closed, and says so
		c.why, c.cause = why, cause
	}
	c.ended = true
	c.mu.Unlock()
	c.nc.Close()
	c.kick() // whoever writes finds out by itself
}

// wake implements listener.
func (c *conn) wake() { c.kick() }

// kick has what there is written, by the caller as far as the socket takes it
// now.
func (c *conn) kick() {
	c.mu.Lock()
	if c.writing {
		c.again = true
		c.mu.Unlock()
		return
	}
	c.writing = true
	c.mu.Unlock()
	c.write(true)
}

// write writes until there is nothing left. With quick it does not wait, but
// leaves what takes time to a goroutine.
func (c *conn) write(quick bool) {
	for {
		if len(c.bufs) == 0 {
			switch c.gather(quick) {
			case gatherNone:
				return
			case gatherLater:
				go c.write(false)
				return
			}
		}
		var err error
		if !quick {
			err = c.flush()
		} else if err = c.try(); err == errWouldBlock {
			go c.write(false)
			return
		}
		if err != nil {
			c.broken(err)
			return
		}
		c.wrote()
	}
}

// What gather found.
type gathered int

const (
	gatherNone  gathered = iota // nothing: the caller is not the writer any more
	gatherSome                  // what stands in bufs
	gatherLater                 // something that takes long to make
)

// gather puts what is to be written next into bufs.
func (c *conn) gather(quick bool) gathered {
	for {
		c.mu.Lock()
		c.again = false
		if c.ended || c.sentBye {
			// The writer stays one for ever, so that there is no other.
			close(c.done)
			c.mu.Unlock()
			return gatherNone
		}
		room := append(c.room[:0], c.own...)
		clear(c.own)
		c.own = c.own[:0]
		watches, greet, bye := c.watches, c.greeted, c.bye
		c.watches, c.greeted = nil, false
		c.mu.Unlock()

		if greet {
			room = append(room, c.welcome())
		}
		for _, w := range watches {
			c.feed.watch(c, w.hunt, w.view, w.resume)
		}
		later := false
		clear(c.frames)
		c.frames = c.frames[:0]
		if bye != nil {
			room = append(room, bye)
			c.sentBye = true
		} else {
			c.frames, later = c.feed.collect(c.frames, quick)
			if c.feed.reborn(c.told) {
				room = append(room, c.welcome())
			}
			for _, f := range c.frames {
				room = append(room, f.ws)
			}
		}
		c.room, c.bufs, c.size = room, room, 0
		for _, b := range room {
			c.size += len(b)
		}
		switch {
		case len(room) > 0:
			return gatherSome
		case later:
			return gatherLater
		}
		c.mu.Lock()
		if !c.again {
			c.writing = false
			c.mu.Unlock()
			return gatherNone
		}
		c.mu.Unlock()
	}
}

// welcome returns the frame that begins an epoch.
func (c *conn) welcome() []byte {
	c.hub.mu.RLock()
	c.told = c.hub.life
	c.hub.mu.RUnlock()
	return c.hub.welcome(c.codec, c.session.player, c.told)
}

// wrote counts what is through, and lets it go.
func (c *conn) wrote() {
	m := c.hub.metrics
	m.bytes.Add(float64(c.size))
	if len(c.frames) > 0 {
		m.deliveries.Add(float64(len(c.frames)))
		for _, f := range c.frames {
			if f.fresh != 0 {
				m.standings.Observe(cairn.InstantOf(c.hub.opts.Now()).Sub(f.fresh).Seconds())
			}
		}
	}
	clear(c.room)
	c.bufs = nil
	if c.sentBye {
		// The client has this long to answer; what it sends is dropped.
		c.nc.SetReadDeadline(time.Now().Add(closeWithin))
		if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // whoever is gone shows at the next read
		}
	}
}

// broken ends a connection whose socket failed. The writer calls it.
func (c *conn) broken(err error) {
	c.bufs = nil
	if errors.Is(err, errTooSlow) {
		c.cut(endSlow, fmt.Errorf("broadcast: write: %w", err))
	} else {
		c.hangUp(endLost, fmt.Errorf("broadcast: write: %w", err))
	}
	c.gather(false) // finds that it has ended
}

// flush writes what is in flight, and waits for the client as long as it takes
// a byte now and then.
func (c *conn) flush() error {
	parts := 4
	if !c.socket {
		parts = 1
	}
	part := max(c.hub.opts.StuckFor/time.Duration(parts), time.Millisecond)
	left := parts
	if c.sentBye { // which a client that is merely late is to get
		left, part = 1, max(part, closeWithin)
	}
	told := c.sentBye
	until := time.Now().Add(c.hub.opts.BatchWithin)
	defer c.nc.SetWriteDeadline(time.Time{})
	for {
		now := time.Now()
		c.nc.SetWriteDeadline(now.Add(min(part, max(until.Sub(now), time.Millisecond))))
		n, err := c.bufs.WriteTo(c.nc)
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if n > 0 {
			left = parts
		} else {
			left--
		}
		if left > 0 && time.Now().Before(until) {
			continue
		}
		if told || !c.socket {
			return errTooSlow
		}
		// It gets a moment more to take the frame in flight, and then the
		// close frame that says why.
		told, left, part = true, 1, max(part, closeWithin)
		until = time.Now().Add(max(c.hub.opts.StuckFor, c.hub.opts.BatchWithin))
		c.say(statusTooSlow, "too slow", endSlow, errTooSlow)
	}
}

// check does what is due by the clock: the pings of RFC 6455.
func (c *conn) check(now time.Time) {
	silent := now.Sub(time.Unix(0, c.heard.Load()))
	if silent >= c.hub.opts.DeadAfter {
		c.cut(endSilent, errSilent(c.hub.opts.DeadAfter))
		return
	}
	c.mu.Lock()
	ping := !c.pinged.IsZero() && now.Sub(c.pinged) >= c.hub.opts.PingEvery && len(c.own) == 0
	if ping {
		c.pinged = now
	}
	c.mu.Unlock()
	if ping {
		c.send(pingBytes)
	}
}

// drain implements peer.
func (c *conn) drain(left time.Duration) {
	c.send(c.codec.message(drainFrame{Type: "drain", WithinMS: left.Milliseconds()}))
}

// end implements peer.
func (c *conn) end(now bool) {
	if now {
		c.hangUp(endServer, nil)
		return
	}
	c.say(ws.StatusGoingAway, "going away", endServer, nil)
}

// serve reads until the connection ends, cleans up behind it, and returns how
// it ended. early is what the client sent behind its handshake.
func (c *conn) serve(early []byte) error {
	c.del.enter(c)
	err := c.read(early)

	if c.leaving() {
		// Until the client has taken the close frame, its bytes must be read:
		// closing on them would reset the connection.
		<-c.done
		_, _ = io.Copy(io.Discard, c.nc)
		c.nc.Close()
	} else {
		c.hangUp(endLost, err)
		<-c.done
	}
	c.cancel()
	c.del.exit(c)
	c.feed.close()
	for _, w := range c.watches {
		if w.view != nil {
			c.hub.release(w.view)
		}
	}
	c.hub.metrics.closes.WithLabelValues(c.why).Inc()
	return c.cause
}

// leaving reports whether the client was told goodbye, or is to be.
func (c *conn) leaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bye != nil
}

// read reads and handles what the client sends until the connection ends or
// was told goodbye. It returns what made the socket unreadable.
func (c *conn) read(early []byte) error {
	c.nc.SetReadDeadline(time.Now().Add(c.hub.opts.HelloWithin))
	if len(early) > 0 && c.session.in.feed(&c.session, slices.Clone(early)) != nil {
		return nil
	}
	buf := make([]byte, readBytes)
	for {
		n, err := c.nc.Read(buf)
		if n > 0 {
			c.heard.Store(time.Now().UnixNano())
			if c.leaving() { // what it sends from now on is dropped
				return nil
			}
			if c.session.in.feed(&c.session, buf[:n]) != nil {
				return nil
			}
		}
		switch {
		case err == nil:
		case !c.session.hello && isTimeout(err):
			c.say(ws.StatusPolicyViolation, "no hello in time", endHandshake, errNoHello)
			return nil
		case errors.Is(err, io.EOF):
			return errLost
		default:
			return fmt.Errorf("broadcast: connection lost: %w", err)
		}
	}
}

// readBytes is what a connection reads at once: most messages come in one read.
const readBytes = 512

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
