package broadcast

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/veltrix/cairn/internal/wire"
)

// The cases of RFC 6455 that the Autobahn test suite lists, by its numbers, as
// far as a server is concerned that answers messages instead of echoing them,
// and takes none of over 4 KiB. Frames are made and read by hand here, so that
// the hub's library is not tested against itself.

// Opcodes: RFC 6455, 5.2.
const (
	opMore   = 0x0
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xa
)

const (
	finBit  = 0x80
	rsvBits = 0x70
	maskBit = 0x80
)

var maskKey = [4]byte{0x37, 0xfa, 0x21, 0x3d} // the RFC's example

// header returns a frame's first bytes: the first one as it is given, and then
// a client's length and mask.
func clientHeader(first byte, n uint64) []byte {
	b := []byte{first}
	switch {
	case n < 126:
		b = append(b, maskBit|byte(n))
	case n <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, maskBit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, maskBit|127), n)
	}
	return append(b, maskKey[:]...)
}

// rawFrame returns a client's frame whose first byte is given.
func rawFrame(first byte, payload []byte) []byte {
	b := clientHeader(first, uint64(len(payload)))
	for i, c := range payload {
		b = append(b, c^maskKey[i%4])
	}
	return b
}

// maskedFrame returns a client's frame.
func maskedFrame(op byte, fin bool, payload []byte) []byte {
	if fin {
		op |= finBit
	}
	return rawFrame(op, payload)
}

// closing returns a client's close frame.
func closing(code uint16, reason string) []byte {
	return maskedFrame(opClose, true, append(binary.BigEndian.AppendUint16(nil, code), reason...))
}

func ping(payload string) []byte { return maskedFrame(opPing, true, []byte(payload)) }

func glue(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// A heard is a frame of the server's.
type heard struct {
	op      byte
	payload []byte
	raw     []byte
}

// readHeard reads one frame, and holds the server to the form that all of its
// frames have: whole, unmasked, no reserved bit, and its length in as few bytes
// as can be.
func readHeard(r io.Reader) (heard, error) {
	b := make([]byte, 2, 10)
	if _, err := io.ReadFull(r, b); err != nil {
		return heard{}, err
	}
	if b[0]&finBit == 0 || b[0]&rsvBits != 0 || b[1]&maskBit != 0 {
		return heard{}, fmt.Errorf("frame begins % x: not whole, or masked, or with a reserved bit", b)
	}
	n, least := uint64(b[1]), uint64(0)
	switch n {
	case 126:
		b, least = b[:4], 126
	case 127:
		b, least = b[:10], math.MaxUint16+1
	}
	if _, err := io.ReadFull(r, b[2:]); err != nil {
		return heard{}, noEOF(err)
	}
	switch len(b) {
	case 4:
		n = uint64(binary.BigEndian.Uint16(b[2:]))
	case 10:
		n = binary.BigEndian.Uint64(b[2:])
	}
	if n < least || n > 64<<20 {
		return heard{}, fmt.Errorf("frame begins % x: a length of %d", b, n)
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		return heard{}, noEOF(err)
	}
	h := heard{op: b[0] & 0xf, payload: p, raw: append(b, p...)}
	if h.op >= opClose && n > 125 {
		return h, fmt.Errorf("control frame of %d bytes", n)
	}
	return h, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A want is an answer that a case expects: a frame of these bytes, or a message.
type want struct {
	raw  []byte // byte for byte, if it is not nil
	kind string // else the message's type
	code string // if it is an error: its code
	id   string
}

func pong(payload string) want {
	return want{raw: append([]byte{finBit | opPong, byte(len(payload))}, payload...)}
}

// echo is how the hub answers a claim of someone without a token: the one text
// of a client that it repeats is the claim's id.
func echo(id string) want { return want{kind: "error", code: codeUnauthorized, id: id} }

func fault(code string) want { return want{kind: "error", code: code} }

// A rfcCase is what a client that has said hello sends, and all that it hears:
// the answers, and a close frame of one of some codes, after which the server
// closes its side.
type rfcCase struct {
	name string
	send []byte
	want []want
	end  []uint16 // none if nothing ends it: then the client does, with 1000
}

// A speech says things in one of the codecs.
type speech Codec

func (s speech) op() byte {
	if Codec(s) == Proto {
		return opBinary
	}
	return opText
}

// say returns the payload of a client's message.
func (s speech) say(text string) []byte {
	if Codec(s) == JSON {
		return []byte(text)
	}
	b, err := protoOf(text)
	if err != nil {
		panic(err)
	}
	return b
}

// claim returns a message that is answered with its id.
func (s speech) claim(id string) []byte {
	return s.say(`{"type":"claim","id":"` + id + `","hunt":"oslo","map":1,"tile":0}`)
}

// frame returns that as one frame.
func (s speech) frame(id string) []byte { return maskedFrame(s.op(), true, s.claim(id)) }

// long returns a message of n bytes that is answered, and its answer.
func (s speech) long(n int) ([]byte, want) {
	const around = `{"type":"ping"}`
	switch {
	case Codec(s) == Proto && n == 0:
		return nil, fault(wire.FrameMissingField) // a message without fields
	case Codec(s) == Proto:
		return bytes.Repeat([]byte{0xff}, n), fault(wire.FrameMalformed) // no field has such a tag
	case n < len(around):
		return bytes.Repeat([]byte{'x'}, n), fault(wire.FrameMalformed)
	}
	return []byte(around[:len(around)-1] + strings.Repeat(" ", n-len(around)) + "}"), want{kind: "pong"}
}

// fragments cuts a message into frames of n bytes, the last one of what is left.
func (s speech) fragments(message []byte, n int) []byte {
	var all []byte
	op := s.op()
	for len(message) > n {
		all = append(all, maskedFrame(op, false, message[:n])...)
		message, op = message[n:], opMore
	}
	return append(all, maskedFrame(op, true, message)...)
}

// check compares what was heard with what is wanted.
func (w want) check(h heard, s speech) error {
	if w.raw != nil {
		if !bytes.Equal(h.raw, w.raw) {
			return fmt.Errorf("got frame % x, want % x", h.raw, w.raw)
		}
		return nil
	}
	if h.op != s.op() {
		return fmt.Errorf("got a frame of opcode %d %q, want a %s", h.op, h.payload, w.kind)
	}
	b := h.payload
	if Codec(s) == Proto {
		var err error
		if b, err = jsonOf(b, false); err != nil {
			return err
		}
	}
	m, err := parseMsg(b)
	if err != nil {
		return err
	}
	if m.Type != w.kind || m.Code != w.code || m.ID != w.id {
		return fmt.Errorf("got %s, want a %s with code %q and id %q", b, w.kind, w.code, w.id)
	}
	return nil
}

// socketTo returns a connection that the hub serves, and which needed no
// handshake; early is what was read behind it.
func (r *rig) socketTo(codec Codec, early []byte, ended func(error)) (net.Conn, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, err
	}
	server, err := ln.Accept()
	if err != nil {
		nc.Close()
		return nil, err
	}
	r.hub.Serve(server, early, codec, r.edge, ended)
	return nc, nc.SetDeadline(time.Now().Add(20 * time.Second))
}

// A chop is how a client's bytes come.
type chop struct {
	name  string
	early bool // the first half stands behind the handshake
	size  int  // of each write; 0 for all at once
}

var chops = []chop{
	{name: "whole"},
	{name: "early", early: true},
	{name: "bytes", size: 1},
	{name: "pairs", size: 2},
	{name: "sevens", size: 7},
}

const chopsMax = 600

// hold holds one conversation, and returns what was wrong in it.
func (r *rig) hold(test *rfcCase, s speech, how chop) error {
	stream := glue(maskedFrame(s.op(), true, s.say(`{"type":"hello"}`)), test.send)
	end := test.end
	if end == nil {
		stream, end = append(stream, closing(1000, "")...), []uint16{1000}
	}
	var early []byte
	if how.early {
		early, stream = stream[:len(stream)/2], stream[len(stream)/2:]
	}
	var ends atomic.Int32
	nc, err := r.socketTo(Codec(s), early, func(error) { ends.Add(1) })
	if err != nil {
		return err
	}
	defer nc.Close()
	for all := len(stream); len(stream) > 0; {
		n := len(stream)
		if how.size > 0 { // long streams in larger pieces: what matters is where they are cut
			n = min(n, max(how.size, all/chopsMax))
		}
		if _, err := nc.Write(stream[:n]); err != nil {
			return fmt.Errorf("the server did not take all: %w", err)
		}
		stream = stream[n:]
	}
	for i, w := range append([]want{{kind: "welcome"}}, test.want...) {
		h, err := readHeard(nc)
		if err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
		if err := w.check(h, s); err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
	}
	if err := wantEnd(nc, end); err != nil {
		return err
	}
	nc.Close()
	for over := time.Now().Add(20 * time.Second); ends.Load() == 0 && time.Now().Before(over); {
		time.Sleep(100 * time.Microsecond)
	}
	if n := ends.Load(); n != 1 {
		return fmt.Errorf("the end was told %d times", n)
	}
	return nil
}

// wantEnd wants one close frame with one of some codes, and then the end of the
// stream, without the client having done anything.
func wantEnd(nc io.Reader, codes []uint16) error {
	h, err := readHeard(nc)
	if err != nil {
		return fmt.Errorf("got %w, want a close frame of %d", err, codes)
	}
	if h.op != opClose || len(h.payload) < 2 {
		return fmt.Errorf("got frame % x %q, want a close frame of %d", h.raw, h.payload, codes)
	}
	code, reason := binary.BigEndian.Uint16(h.payload), h.payload[2:]
	found := false
	for _, c := range codes {
		found = found || c == code
	}
	if !found || !utf8.Valid(reason) {
		return fmt.Errorf("got close code %d %q, want %d", code, reason, codes)
	}
	if h, err := readHeard(nc); err == nil {
		return fmt.Errorf("got % x after the close frame; want the end", h.raw)
	} else if err != io.EOF {
		return fmt.Errorf("after the close frame, in place of the end: %w", err)
	}
	return nil
}

// TestRFC6455 holds a conversation for each case, on each half, in each codec,
// and chopped in each way.
func TestRFC6455(t *testing.T) { eachHalf(t, testRFC6455) }

func testRFC6455(t *testing.T) {
	r := newRig(t, Options{})
	n := 0
	for _, s := range []speech{speech(JSON), speech(Proto)} {
		for _, group := range rfcGroups {
			for i, test := range group(s) {
				for k, how := range chops {
					if k > 0 && k != 1+i%(len(chops)-1) {
						continue // whole and one other way are enough for a case
					}
					n++
					if err := r.hold(&test, s, how); err != nil {
						t.Errorf("%s, %v, %s: %v", test.name, Codec(s), how.name, err)
					}
				}
			}
		}
	}
	t.Logf("%d conversations", n)
	r.until("all are gone", func() bool { return r.hub.Connections() == 0 })
}
