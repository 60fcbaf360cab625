package crowd

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha1" // RFC 6455 has it so
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/gobwas/ws"

	"github.com/veltrix/cairn"
)

// A hearing is how a loop understands bytes: handshakes, frames and messages.
type hearing struct {
	nonce, accept string
	good          []byte // an answer to the handshake that was found good: most are the same
	partials      assemblies
	heads         map[uint32][]byte // of answers to handshakes
	fragments     map[uint32][]byte // of messages
	header        bytes.Reader
	headerBuf     [ws.MaxHeaderSize - 2]byte
	out           []byte
	now           int64 // unix µs: when the bytes were received that are being taken
}

func newHearing() hearing {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hearing{nonce: base64.StdEncoding.EncodeToString(b[:]), partials: newAssemblies(), heads: map[uint32][]byte{}, fragments: map[uint32][]byte{}}
	sum := sha1.Sum([]byte(h.nonce + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455, section 4.2.2
	h.accept = base64.StdEncoding.EncodeToString(sum[:])
	return h
}

// newTarget resolves an address, and makes the request of its handshake. All
// handshakes of a loop have one random key, so that equal answers are equal
// bytes.
func (h *hearing) newTarget(l *loop, s string) (target, error) {
	host := s
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "ws" {
			return target{}, badTarget(s)
		}
		host = u.Host
		if u.Port() == "" {
			host = net.JoinHostPort(u.Hostname(), "80")
		}
	}
	a, err := net.ResolveTCPAddr("tcp", host)
	if err != nil || a.IP == nil || a.Port == 0 {
		return target{}, badTarget(s)
	}
	d := &l.opts.Dialect
	r := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", d.Path, host, h.nonce)
	if d.Protocol != "" {
		r += "Sec-WebSocket-Protocol: " + d.Protocol + "\r\n"
	}
	ip := a.AddrPort()
	return target{netip.AddrPortFrom(ip.Addr().Unmap(), ip.Port()), []byte(r + "\r\n")}, nil
}

func badTarget(s string) error {
	return &cairn.FieldError{Field: "Targets", Msg: fmt.Sprintf("has %q; want host:port, or a URL such as http://127.0.0.1:8080", s)}
}

func (h *hearing) forget(slot uint32, m *member) {
	if m.is(flagHeard) {
		h.partials.forget(slot)
		delete(h.heads, slot)
		delete(h.fragments, slot)
		m.flags &^= flagHeard
	}
}

// heard takes bytes that a member received at a moment, in unix µs. It keeps
// none of b. It reports whether the member still has that connection.
func (l *loop) heard(c handle, b []byte, now int64) bool {
	m := l.current(c)
	if m == nil {
		return false
	}
	if m.phase == phaseShaking {
		if b = l.shake(c, m, b); m.phase != phaseLive || m.gen != c.gen {
			return m.gen == c.gen
		}
	}
	l.hearing.now = now
	if m.is(flagHeard) {
		var err error
		if b, err = l.continued(c, m, b); err != nil {
			l.lost(c, err)
			return false
		}
	}
	for len(b) > 0 && m.gen == c.gen {
		h, n, err := l.hearing.read(b)
		if err != nil {
			l.lost(c, err)
			return false
		}
		whole := n + int(h.Length)
		if n == 0 || len(b) < whole {
			if n == 0 {
				whole = 0
			}
			l.hearing.partials.begin(c.slot, b, whole)
			m.flags |= flagHeard
			return true
		}
		l.frame(c, m, h, b[n:whole], 0)
		b = b[whole:]
	}
	return m.gen == c.gen
}

// continued completes a frame of which parts were there, and returns what
// comes behind it.
func (l *loop) continued(c handle, m *member, b []byte) ([]byte, error) {
	x := &l.hearing.partials
	p, ok := x.bySlot[c.slot]
	if !ok {
		return b, nil // only fragments of a message are kept
	}
	a := p.of
	if a.need == 0 { // not even its header was whole
		x.forget(c.slot)
		return append(a.data, b...), nil
	}
	take := min(a.need-p.n, len(b))
	x.add(&p, b[:take])
	x.bySlot[c.slot] = p
	if p.n < p.of.need {
		return nil, nil
	}
	a = p.of
	h, n, err := l.hearing.read(a.data)
	if err != nil {
		return nil, err
	}
	payload := a.data[n:a.need]
	if a.hash == 0 {
		a.hash = xxhash.Sum64(payload)
	}
	x.forget(c.slot)
	if len(l.hearing.fragments) == 0 || l.hearing.fragments[c.slot] == nil {
		m.flags &^= flagHeard
	}
	l.frame(c, m, h, payload, a.hash)
	return b[take:], nil
}

// read reads a frame's header and returns how many bytes it takes: none if b
// does not have all of it.
func (h *hearing) read(b []byte) (ws.Header, int, error) {
	h.header.Reset(b)
	f, err := ws.ReadHeaderBuffer(&h.header, h.headerBuf[:])
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return f, 0, nil
	case err != nil || f.Masked || f.Rsv != 0 || f.Length > frameMax:
		return f, 0, errFrame
	}
	return f, len(b) - h.header.Len(), nil
}

// frame takes a whole frame. hash is the payload's, or 0 if it is not known.
func (l *loop) frame(c handle, m *member, h ws.Header, payload []byte, hash uint64) {
	switch h.OpCode {
	case ws.OpPing:
		l.stats.Pings++
		l.say(c, m, ws.OpPong, payload)
		return
	case ws.OpPong:
		return
	case ws.OpClose:
		code := ws.StatusNoStatusRcvd
		if len(payload) >= 2 {
			code, _ = ws.ParseCloseFrameData(payload)
			payload = payload[:2]
		}
		l.stats.Closes[int(code)]++
		l.hearing.out = appendFrame(l.hearing.out[:0], ws.OpClose, payload)
		_ = l.link.send(c, m, l.hearing.out) // one that fails is gone already
		if code == ws.StatusGoingAway || code == statusRestart {
			l.elsewhere(m)
		}
		l.retry(c, m, l.backoff(m))
		return
	case ws.OpContinuation, ws.OpText, ws.OpBinary:
	default:
		l.lost(c, errFrame)
		return
	}
	before, inside := l.hearing.fragments[c.slot]
	if inside != (h.OpCode == ws.OpContinuation) || !inside && (h.OpCode == ws.OpBinary) != l.opts.Dialect.Binary {
		l.lost(c, errFrame)
		return
	}
	if !h.Fin {
		l.hearing.fragments[c.slot] = append(before, payload...)
		m.flags |= flagHeard
		return
	}
	if inside {
		payload, hash = append(before, payload...), 0
		delete(l.hearing.fragments, c.slot)
	}
	l.message(c, m, payload, hash)
}

// message takes a whole message.
func (l *loop) message(c handle, m *member, b []byte, hash uint64) {
	l.stats.Bytes += int64(len(b))
	if l.opts.Dialect.Name == nameCentrifuge {
		l.lines(c, m, b)
		return
	}
	if hash == 0 {
		hash = xxhash.Sum64(b)
	}
	l.take(c, m, b, hash)
}

// lines takes a message whose lines are parts by themselves.
func (l *loop) lines(c handle, m *member, b []byte) {
	for len(b) > 0 && m.gen == c.gen {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if len(line) > 0 {
			l.take(c, m, line, xxhash.Sum64(line))
		}
	}
}

// say sends a frame of a client's.
func (l *loop) say(c handle, m *member, op ws.OpCode, payload []byte) {
	l.hearing.out = appendFrame(l.hearing.out[:0], op, payload)
	if err := l.link.send(c, m, l.hearing.out); err != nil {
		l.lost(c, err)
	}
}

// appendFrame appends a masked frame.
func appendFrame(b []byte, op ws.OpCode, payload []byte) []byte {
	h := ws.Header{Fin: true, OpCode: op, Masked: true, Length: int64(len(payload))}
	r := mrand.Uint32() // keeps proxies from reading it as HTTP; it hides nothing
	h.Mask = [4]byte{byte(r), byte(r >> 8), byte(r >> 16), byte(r >> 24)}
	w := sliceWriter(b)
	if err := ws.WriteHeader(&w, h); err != nil {
		panic(err) // of a length that is known to fit
	}
	b = append(w, payload...)
	ws.Cipher(b[len(b)-len(payload):], h.Mask, 0)
	return b
}

// statusRestart is the close code of a server that restarts or drains (IANA's
// registry of RFC 6455 close codes).
const statusRestart ws.StatusCode = 1012

type sliceWriter []byte

func (w *sliceWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

// shake takes bytes of the answer to the handshake, and returns what comes
// behind it.
func (l *loop) shake(c handle, m *member, b []byte) []byte {
	if m.is(flagHeard) {
		b = append(l.hearing.heads[c.slot], b...)
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > headMax {
			l.lost(c, errHandshake)
			return nil
		}
		l.hearing.heads[c.slot] = bytes.Clone(b)
		m.flags |= flagHeard
		return nil
	}
	head := b[:end+4]
	if !bytes.Equal(head, l.hearing.good) && !l.answered(c, m, head) {
		return nil
	}
	l.hearing.forget(c.slot, m)
	l.shook(c, m)
	return b[end+4:]
}

// answered looks at the answer to a handshake. If it is a refusal, the member
// comes again later.
func (l *loop) answered(c handle, m *member, head []byte) bool {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	if err != nil {
		l.lost(c, errHandshake)
		return false
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols:
		if resp.Header.Get("Sec-WebSocket-Accept") != l.hearing.accept || resp.Header.Get("Sec-WebSocket-Protocol") != l.opts.Dialect.Protocol {
			l.lost(c, errAccept)
			return false
		}
		l.hearing.good = bytes.Clone(head)
		return true
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if err != nil {
			after = 1
		}
		l.stats.Refused++
		l.retry(c, m, time.Duration(after)*time.Second+mrand.N(time.Second))
	default:
		l.lost(c, fmt.Errorf("crowd: handshake: HTTP %d", resp.StatusCode))
	}
	return false
}
