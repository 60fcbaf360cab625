package broadcast

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

const (
	readBytes = 256 // kept a connection: most messages come in one read
	faultsMax = 16  // malformed messages that a client may send
	huntsMax  = 16  // hunts that a client may watch at once
)

// Codes of error frames beyond those of wire.FrameError.
const (
	codeUnexpected    = "unexpected"      // a frame of a known type at the wrong time
	codeUnauthorized  = "unauthorized"    // a token that is no good, or none where one is needed
	codeUnknownHunt   = "unknown_hunt"    // no such hunt
	codeTooManyClaims = "too_many_claims" // in flight on this connection
	codeTooLarge      = "too_large"       // a message over wire.FrameBytesMax
	codeBinary        = "binary"          // a binary message
)

// messages are buffers for what one message takes: an idle connection has none.
var messages = sync.Pool{New: func() any { return new([wire.FrameBytesMax]byte) }}

// read reads and handles messages until the connection ends or was told
// goodbye. It returns what made the socket unreadable.
func (c *conn) read() error {
	c.nc.SetReadDeadline(time.Now().Add(c.hub.opts.HelloWithin))
	br := bufio.NewReaderSize(c.nc, readBytes)
	m := message{conn: c, br: br}
	for {
		err := m.next()
		if err == nil {
			continue
		}
		if errors.Is(err, errBye) {
			return nil
		}
		if !c.hello && isTimeout(err) {
			c.say(ws.StatusPolicyViolation, "no hello in time", endHandshake, errors.New("broadcast: no hello in time"))
			return nil
		}
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("broadcast: connection lost: %w", io.ErrUnexpectedEOF)
		}
		return err
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// errBye says that a close frame is on its way and nothing more is to be read.
var errBye = errors.New("broadcast: goodbye")

// A message puts one together from its fragments.
type message struct {
	conn *conn
	br   *bufio.Reader
	head [ws.MaxHeaderSize]byte
	buf  *[wire.FrameBytesMax]byte // nil between messages
	n    int
}

// next reads one frame, and handles the message that it completes.
func (m *message) next() error {
	c := m.conn
	h, err := ws.ReadHeaderBuffer(m.br, m.head[:])
	if errors.Is(err, ws.ErrHeaderLengthMSB) || errors.Is(err, ws.ErrHeaderLengthUnexpected) {
		return m.protocol(err)
	}
	if err != nil {
		return err
	}
	c.heard.Store(time.Now().UnixNano())
	state := ws.StateServerSide
	if m.buf != nil {
		state = state.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return m.protocol(err)
	}
	if h.OpCode.IsControl() {
		return m.control(h)
	}
	if h.OpCode != c.codec.opcode() && h.OpCode != ws.OpContinuation {
		return m.bye(ws.StatusUnsupportedData, codeBinary, "binary message; this subprotocol has text only")
	}
	if h.Length > int64(wire.FrameBytesMax-m.n) {
		return m.bye(ws.StatusMessageTooBig, codeTooLarge, fmt.Sprintf("message is over %d bytes", wire.FrameBytesMax))
	}
	if m.buf == nil {
		m.buf = messages.Get().(*[wire.FrameBytesMax]byte)
	}
	part := m.buf[m.n : m.n+int(h.Length)]
	if _, err := io.ReadFull(m.br, part); err != nil {
		return err
	}
	ws.Cipher(part, h.Mask, 0)
	m.n += len(part)
	if !h.Fin {
		return nil
	}
	whole := m.buf[:m.n]
	if !utf8.Valid(whole) {
		return m.bye(ws.StatusInvalidFramePayloadData, wire.FrameNotUTF8, "message is not valid UTF-8")
	}
	err = c.handle(whole)
	messages.Put(m.buf)
	m.buf, m.n = nil, 0
	return err
}

// control handles a control frame, which may come between two fragments.
func (m *message) control(h ws.Header) error {
	var a [ws.MaxControlFramePayloadSize]byte
	p := a[:h.Length]
	if _, err := io.ReadFull(m.br, p); err != nil {
		return err
	}
	ws.Cipher(p, h.Mask, 0)
	switch h.OpCode {
	case ws.OpPing:
		m.conn.send(ownFrame(ws.OpPong, p))
	case ws.OpClose:
		return m.closed(p)
	}
	return nil
}

// closed answers the client's close frame.
func (m *message) closed(p []byte) error {
	code := ws.StatusNormalClosure
	if len(p) > 0 {
		var reason string
		code, reason = ws.ParseCloseFrameData(p)
		if err := ws.CheckCloseFrameData(code, reason); err != nil || len(p) == 1 {
			return m.protocol(ws.ErrProtocolStatusCodeUnknown)
		}
	}
	m.conn.say(code, "", endClient, nil)
	return errBye
}

// protocol ends a connection whose client breaks RFC 6455.
func (m *message) protocol(err error) error {
	m.conn.say(ws.StatusProtocolError, err.Error(), endProtocol, fmt.Errorf("broadcast: %w", err))
	return errBye
}

// bye ends a connection for what a client may not send.
func (m *message) bye(code ws.StatusCode, why, detail string) error {
	m.conn.complain(why, detail, "")
	m.conn.say(code, why, endProtocol, errors.New("broadcast: "+detail))
	return errBye
}

// complain sends an error frame.
func (c *conn) complain(code, detail, id string) {
	c.send(c.codec.message(errorFrame{Type: "error", Code: code, Detail: detail, ID: id}))
}

// fault answers a message that can't be taken. A client that sends too many of
// them is cut.
func (c *conn) fault(code, detail, id string) error {
	c.complain(code, detail, id)
	if c.faults++; c.faults >= faultsMax {
		c.say(ws.StatusPolicyViolation, "too many malformed messages", endProtocol, errors.New("broadcast: too many malformed messages"))
		return errBye
	}
	return nil
}

// handle answers one message.
func (c *conn) handle(b []byte) error {
	f, err := c.codec.decode(b)
	if err != nil {
		var fe *wire.FrameError
		if !errors.As(err, &fe) {
			fe = &wire.FrameError{Code: wire.FrameMalformed, Msg: err.Error()}
		}
		return c.fault(fe.Code, fe.Error(), fe.ID)
	}
	if hello, ok := f.(*wire.HelloFrame); ok != !c.hello {
		if ok {
			return c.fault(codeUnexpected, "hello: was said already", "")
		}
		c.complain(codeUnexpected, "type: the first message is a hello", "")
		c.say(ws.StatusPolicyViolation, "no hello", endHandshake, errors.New("broadcast: first message is not hello"))
		return errBye
	} else if ok {
		return c.helloFrame(hello)
	}
	switch f := f.(type) {
	case *wire.WatchFrame:
		return c.watch(f)
	case *wire.ClaimFrame:
		return c.claim(f)
	default:
		c.hub.mu.RLock()
		seq := c.hub.seq
		c.hub.mu.RUnlock()
		c.send(c.codec.message(pongFrame{Type: "pong", Seq: seq, Now: cairn.InstantOf(c.hub.opts.Now())}))
		return nil
	}
}

func (c *conn) helloFrame(f *wire.HelloFrame) error {
	if f.Token != "" {
		player, name, err := c.edge.Hello(f.Token)
		if err != nil {
			c.complain(codeUnauthorized, err.Error(), "")
			c.say(ws.StatusPolicyViolation, codeUnauthorized, endHandshake, fmt.Errorf("broadcast: hello: %w", err))
			return errBye
		}
		c.player, c.name = player, name
	}
	c.hello = true
	c.resume = Resume{Epoch: f.Epoch, Seq: f.Seq}
	c.nc.SetReadDeadline(time.Time{})
	c.mu.Lock()
	late := c.bye != nil // the deadline of a goodbye must stand
	c.greet = true
	c.mu.Unlock()
	if late {
		c.nc.SetReadDeadline(time.Now().Add(closeWithin))
	}
	c.kick()
	return nil
}

func (c *conn) watch(f *wire.WatchFrame) error {
	w := watching{hunt: f.Hunt, resume: c.resume}
	c.resume = Resume{}
	if len(f.Regions) > 0 || f.Standings {
		sum := len(f.Regions)
		for hunt, n := range c.watched {
			if hunt != f.Hunt {
				sum += n
			}
		}
		if _, had := c.watched[f.Hunt]; sum > wire.WatchRegionsMax || !had && len(c.watched) >= huntsMax {
			return c.fault(wire.FrameInvalidField, fmt.Sprintf("regions: would be %d in %d hunts; want at most %d in %d", sum, len(c.watched)+1, wire.WatchRegionsMax, huntsMax), "")
		}
		v, err := c.hub.acquire(Interest{Codec: c.codec, Hunt: f.Hunt, Regions: f.Regions, Standings: f.Standings})
		switch {
		case errors.Is(err, ErrHuntUnknown):
			return c.fault(codeUnknownHunt, fmt.Sprintf("hunt: there is no hunt %s", f.Hunt), "")
		case err != nil:
			return c.fault(wire.FrameInvalidField, err.Error(), "")
		}
		w.view = v
		c.watched[f.Hunt] = len(f.Regions)
	} else {
		delete(c.watched, f.Hunt)
	}
	c.mu.Lock()
	c.watches = append(c.watches, w)
	waiting := len(c.watches)
	c.mu.Unlock()
	if waiting > c.ownMax() {
		c.say(statusTooSlow, "too slow", endSlow, errTooSlow)
		return errBye
	}
	c.kick()
	return nil
}

func (c *conn) claim(f *wire.ClaimFrame) error {
	if c.player == "" {
		c.complain(codeUnauthorized, "claim: needs a player's token in hello", f.ID)
		return nil
	}
	if int(c.claims.Add(1)) > c.hub.opts.ClaimsMax {
		c.claims.Add(-1)
		c.complain(codeTooManyClaims, fmt.Sprintf("claim: %d are in flight; wait for an outcome", c.hub.opts.ClaimsMax), f.ID)
		return nil
	}
	var once sync.Once
	c.edge.Claim(c.ctx, c.player, c.name, c.codec, f, func(frame []byte) {
		once.Do(func() {
			c.claims.Add(-1)
			c.send(c.codec.whole(frame))
		})
	})
	return nil
}
