package broadcast

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire"
)

// A tape is a connection that writes down what a session has to say.
type tape struct {
	hub  *Hub
	said []string
	over bool
}

var _ outlet = (*tape)(nil)

func (o *tape) send(b []byte) {
	if !o.over {
		o.said = append(o.said, fmt.Sprintf("frame %x", b))
	}
}

func (o *tape) reply(b []byte) { o.send(b) }

func (o *tape) say(code ws.StatusCode, reason, why string, _ error) {
	if !o.over {
		o.said = append(o.said, fmt.Sprintf("close %d %q: %s", code, reason, why))
	}
	o.over = true
}

func (o *tape) greet() { o.said = append(o.said, "welcome") }

func (o *tape) watch(w watching) bool {
	regions := []cairn.Cell(nil)
	if w.view != nil {
		regions = w.view.asked
		o.hub.release(w.view)
	}
	o.said = append(o.said, fmt.Sprintf("watch %s %v from %v", w.hunt, regions, w.resume))
	return true
}

func (o *tape) life() context.Context { return context.Background() }

// A promptEdge answers claims before Claims returns.
type promptEdge struct{ testEdge }

func (*promptEdge) Claims(_ context.Context, player cairn.PlayerID, name string, codec Codec, cs []wire.ClaimFrame, reply func([]byte)) {
	for _, c := range cs {
		if codec == Proto {
			reply(outcomeProto(c.ID, player, name))
		} else {
			reply([]byte(`{"type":"outcome","id":"` + c.ID + `"}`))
		}
	}
}

// listen has a session take a client's bytes in pieces, the ends of which are
// given, and returns what it said. It fails if more of them is kept than may be.
func listen(h *Hub, codec Codec, stream []byte, ends []int) ([]string, error) {
	o := &tape{hub: h}
	s := &session{hub: h, out: o, codec: codec, edge: &promptEdge{}}
	at := 0
	for _, end := range append(ends, len(stream)) {
		piece := slices.Clone(stream[at:end]) // feed may change it
		at = end
		if s.in.feed(s, piece) != nil {
			if !o.over {
				return nil, fmt.Errorf("it takes no more after %q, and said no goodbye", o.said)
			}
			break
		}
		if o.over {
			return nil, fmt.Errorf("it said goodbye, %q, and takes more", o.said)
		}
		for i := range piece { // whoever reads uses its buffer again
			piece[i] = 0xee
		}
		if len(s.in.rest) > ws.MaxHeaderSize+wire.FrameBytesMax || len(s.in.message) > wire.FrameBytesMax {
			return nil, fmt.Errorf("it keeps %d bytes of a frame and %d of a message", len(s.in.rest), len(s.in.message))
		}
	}
	return o.said, nil
}

// sameHoweverChopped compares what a session says to a stream as a whole with
// what it says to pieces of it.
func sameHoweverChopped(h *Hub, codec Codec, stream []byte, ends []int) ([]string, error) {
	whole, err := listen(h, codec, stream, nil)
	if err != nil {
		return nil, err
	}
	chopped, err := listen(h, codec, stream, ends)
	if err == nil && !slices.Equal(whole, chopped) {
		err = fmt.Errorf("got %q in pieces, %q as a whole", chopped, whole)
	}
	return whole, err
}

// validStream draws what a client that keeps to RFC 6455 may send, and returns
// how many answers it gets.
func validStream(t *rapid.T, s speech) (stream []byte, answers int) {
	stream = maskedFrame(s.op(), true, s.say(`{"type":"hello","token":"token-ana"}`))
	answers = 1
	for range rapid.IntRange(0, 12).Draw(t, "frames") {
		var m []byte
		switch rapid.IntRange(0, 6).Draw(t, "kind") {
		case 0:
			stream, answers = append(stream, ping(rapid.StringN(0, 31, 125).Draw(t, "ping"))...), answers+1
			continue
		case 1:
			stream = append(stream, maskedFrame(opPong, true, []byte("pong"))...)
			continue
		case 2:
			m = s.say(watchText(rapid.Bool().Draw(t, "standings"), "u4", "9q"))
		case 3:
			m = s.say(`{"type":"ping"}`)
		case 4:
			m, _ = s.long(rapid.IntRange(0, wire.FrameBytesMax).Draw(t, "long"))
		default:
			m = s.claim(rapid.StringMatching(`[a-zA-Z0-9κόσμε]{1,20}`).Draw(t, "id"))
		}
		answers++
		// In fragments, with pings between them.
		op := s.op()
		for range rapid.IntRange(0, 3).Draw(t, "fragments") {
			n := rapid.IntRange(0, len(m)).Draw(t, "fragment")
			stream = append(stream, maskedFrame(op, false, m[:n])...)
			m, op = m[n:], opMore
			if rapid.Bool().Draw(t, "between") {
				stream, answers = append(stream, ping("between")...), answers+1
			}
		}
		stream = append(stream, maskedFrame(op, true, m)...)
	}
	if rapid.Bool().Draw(t, "closes") {
		stream, answers = append(stream, closing(1000, "bye")...), answers+1
	}
	return stream, answers
}

func drawEnds(t *rapid.T, n int) []int {
	ends := rapid.SliceOfN(rapid.IntRange(0, n), 0, 40).Draw(t, "ends")
	slices.Sort(ends)
	return ends
}

// TestChopped: where TCP cuts a stream makes no difference, be the stream good
// or bad.
func TestChopped(t *testing.T) {
	h := newBenchHub(t, 1, 4).Hub
	rapid.Check(t, func(t *rapid.T) {
		codec := Codec(rapid.IntRange(0, int(codecs)-1).Draw(t, "codec"))
		stream, answers := validStream(t, speech(codec))
		said, err := sameHoweverChopped(h, codec, stream, drawEnds(t, len(stream)))
		if err != nil {
			t.Fatal(err)
		}
		if len(said) != answers {
			t.Fatalf("got %q, %d answers; want %d", said, len(said), answers)
		}
		for range rapid.IntRange(1, 4).Draw(t, "mutations") {
			stream = mutated(stream, rapid.IntRange(0, 1<<30).Draw(t, "mutation"))
		}
		if _, err := sameHoweverChopped(h, codec, stream, drawEnds(t, len(stream))); err != nil {
			t.Fatal(err)
		}
	})
	if len(h.views) > 0 {
		t.Errorf("%d views are left", len(h.views))
	}
}

// mutated returns b with something wrong somewhere, as n says.
func mutated(b []byte, n int) []byte {
	b = slices.Clone(b)
	if len(b) == 0 {
		return []byte{byte(n)}
	}
	at := n / 1024 % len(b)
	switch n % 4 {
	case 0:
		b[at] ^= 1 << (n / 4 % 8)
	case 1:
		b[at] = byte(n / 4)
	case 2:
		b = slices.Delete(b, at, min(len(b), at+1+n/4%16))
	default:
		b = slices.Insert(b, at, b[max(0, at-n/4%200):at]...)
	}
	return b
}

// TestMutatedOnTheWire: whatever a client sends, the hub says things in frames
// that are whole, and the connection ends when the client does.
func TestMutatedOnTheWire(t *testing.T) { eachHalf(t, testMutatedOnTheWire) }

func testMutatedOnTheWire(t *testing.T) {
	r := newRig(t, Options{})
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for i := range 120 {
		s := speech(i % int(codecs))
		m := glue(s.fragments(s.say(`{"type":"hello"}`), 5), s.frame("1"), ping("p"), s.fragments(s.claim("2"), 7), s.frame("3"), closing(1000, ""))
		for range 1 + rnd.IntN(3) {
			m = mutated(m, rnd.IntN(1<<30))
		}
		early := rnd.IntN(len(m))
		nc, err := r.socketTo(Codec(s), m[:early], nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write(m[early:])
		_ = nc.(*net.TCPConn).CloseWrite()
		for {
			h, err := readHeard(nc)
			if err == nil {
				if h.op == s.op() || h.op == opClose || h.op == opPong {
					continue
				}
				err = fmt.Errorf("got a frame of opcode %d", h.op)
			}
			if err != io.EOF && !strings.Contains(err.Error(), "reset") {
				t.Errorf("seed %d, stream %d, % x: %v", seed, i, m, err)
			}
			break
		}
		nc.Close()
	}
	r.until("all are gone", func() bool { return r.hub.Connections() == 0 })
}

// FuzzInbound feeds a session any bytes, cut anywhere.
func FuzzInbound(f *testing.F) {
	for codec := range codecs {
		s := speech(codec)
		hello := maskedFrame(s.op(), true, s.say(`{"type":"hello"}`))
		for _, group := range rfcGroups {
			for i, test := range group(s) {
				if len(test.send) < 1000 {
					f.Add(uint8(codec), uint8(1+i%9), slices.Concat(hello, test.send))
				}
			}
		}
	}
	h := newBenchHub(f, 1, 4).Hub
	f.Fuzz(func(t *testing.T, codec, size uint8, stream []byte) {
		var ends []int
		for at := int(size); size > 0 && at < len(stream) && len(ends) < 2000; at += int(size) {
			ends = append(ends, at)
		}
		said, err := sameHoweverChopped(h, Codec(codec)%codecs, stream, ends)
		if err != nil {
			t.Fatal(err)
		}
		if len(said) > 1+len(stream)/2 { // a frame has two bytes at least, and one may be answered twice
			t.Errorf("%d answers to %d bytes", len(said), len(stream))
		}
		if n := len(h.views); n > 0 {
			t.Errorf("%d views are left", n)
		}
	})
}
