package broadcast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/veltrix/cairn/internal/wire"
)

// TestMalformed sends each thing that is wrong, and wants it named and the
// connection kept.
func TestMalformed(t *testing.T) { eachHalf(t, testMalformed) }

func testMalformed(t *testing.T) {
	r := newRig(t, Options{PrecisionMax: 6})
	for _, test := range []struct{ send, code, says string }{
		{`{`, wire.FrameMalformed, "JSON"},
		{``, wire.FrameMalformed, "JSON"},
		{`{"type":"shout"}`, wire.FrameUnknownType, "type"},
		{`{"type":"ping","loud":true}`, wire.FrameUnknownField, "loud"},
		{`{"type":"watch","hunt":"oslo","regions":"u4"}`, wire.FrameInvalidField, "regions"},
		{`{"type":"watch","hunt":"oslo"}`, wire.FrameMissingField, "regions"},
		{`{"type":"watch","hunt":"oslo","regions":["u4xsu0d"]}`, wire.FrameInvalidField, "regions[0]: has 7 characters; want at most 6"},
		{`{"type":"watch","hunt":"bergen","regions":["u4"]}`, codeUnknownHunt, "bergen"},
		{`{"type":"hello"}`, codeUnexpected, "already"},
		{`{"type":"claim","id":"1","hunt":"oslo","map":1,"tile":-1}`, wire.FrameInvalidField, "tile"},
		{`{"type":"claim","id":"7","hunt":"oslo","map":1,"tile":1}`, codeUnauthorized, "token"},
	} {
		c := r.dial()
		c.hello("")
		c.send(test.send)
		got := c.want("error")
		if got.Code != test.code || !strings.Contains(got.Detail, test.says) {
			t.Errorf("%s: got %s; want %s … %s …", test.send, got.raw, test.code, test.says)
		}
		c.send(`{"type":"ping"}`)
		c.want("pong")
	}
}

// closed reads to the end, and returns the close code and the error frames
// that came before it.
func (c *client) closed() (code websocket.StatusCode, said []string) {
	c.t.Helper()
	for {
		m, err := c.read()
		if err != nil {
			return websocket.CloseStatus(err), said
		}
		if m.Type == "error" {
			said = append(said, m.Code)
		}
	}
}

// TestCloses does each thing that ends a connection.
func TestCloses(t *testing.T) { eachHalf(t, testCloses) }

func testCloses(t *testing.T) {
	r := newRig(t, Options{HelloWithin: 300 * time.Millisecond})
	write := func(kind websocket.MessageType, b []byte) func(*client) {
		return func(c *client) {
			if err := c.ws.Write(t.Context(), kind, b); err != nil {
				t.Error(err)
			}
		}
	}
	large := []byte(`{"type":"ping","x":"` + strings.Repeat("x", wire.FrameBytesMax) + `"}`)
	for _, test := range []struct {
		name  string
		hello bool
		do    func(*client)
		code  websocket.StatusCode
		says  string
	}{
		{"binary", true, write(websocket.MessageBinary, []byte("{}")), 1003, codeBinary},
		{"too large", true, write(websocket.MessageText, large), 1009, codeTooLarge},
		{"not UTF-8", true, write(websocket.MessageText, []byte("{\"type\":\"\xff\"}")), 1007, wire.FrameNotUTF8},
		{"no hello first", false, write(websocket.MessageText, []byte(`{"type":"ping"}`)), 1008, codeUnexpected},
		{"bad token", false, write(websocket.MessageText, []byte(`{"type":"hello","token":"x"}`)), 1008, codeUnauthorized},
		{"silent", false, func(*client) {}, 1008, ""},
		{"often malformed", true, func(c *client) {
			for range faultsMax {
				c.send("{")
			}
		}, 1008, wire.FrameMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := r.dial()
			if test.hello {
				c.hello("")
			}
			test.do(c)
			code, said := c.closed()
			if code != test.code || test.says != "" && !slices.Contains(said, test.says) {
				t.Errorf("got close code %d after errors %q; want %d after %q", code, said, test.code, test.says)
			}
		})
	}
	r.until("all are gone", func() bool { return r.metric("cairn_broadcast_connections") == 0 })
}

// rawDial returns a connection whose frames the test writes itself.
func (r *rig) rawDial() net.Conn {
	r.t.Helper()
	nc, br, _, err := ws.Dialer{Protocols: []string{"cairn.v1.json"}}.Dial(r.t.Context(), "ws://"+r.ln.Addr().String()+"/v1/live")
	if err != nil {
		r.t.Fatal(err)
	}
	if br != nil {
		r.t.Fatal("server spoke first")
	}
	r.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return nc
}

// TestFragments sends a message in parts, with a ping between them.
func TestFragments(t *testing.T) { eachHalf(t, testFragments) }

func testFragments(t *testing.T) {
	r := newRig(t, Options{})
	nc := r.rawDial()
	write := func(op ws.OpCode, fin bool, p string) {
		t.Helper()
		if err := ws.WriteFrame(nc, ws.MaskFrame(ws.NewFrame(op, fin, []byte(p)))); err != nil {
			t.Fatal(err)
		}
	}
	write(ws.OpText, false, `{"type":`)
	write(ws.OpContinuation, false, ``)
	write(ws.OpPing, true, "are you there")
	write(ws.OpContinuation, true, `"hello"}`)
	f, err := readFrame(nc)
	if err != nil || f.Header.OpCode != ws.OpPong || string(f.Payload) != "are you there" {
		t.Fatalf("got %+v %q, %v; want the pong", f.Header, f.Payload, err)
	}
	if f, err = readFrame(nc); err != nil || !strings.Contains(string(f.Payload), "welcome") {
		t.Fatalf("got %+v %q, %v; want a welcome", f.Header, f.Payload, err)
	}
	// Fragments add up to the limit of a message.
	write(ws.OpText, false, strings.Repeat(" ", wire.FrameBytesMax/2))
	write(ws.OpContinuation, false, strings.Repeat(" ", wire.FrameBytesMax/2))
	write(ws.OpContinuation, true, " ")
	wantClose(t, nc, ws.StatusMessageTooBig)
}

// readFrame reads one whole frame of the hub's, which is never long.
func readFrame(nc net.Conn) (ws.Frame, error) {
	h, err := ws.ReadHeader(nc)
	if err != nil {
		return ws.Frame{}, err
	}
	p := make([]byte, h.Length)
	_, err = io.ReadFull(nc, p)
	return ws.Frame{Header: h, Payload: p}, err
}

func wantClose(t *testing.T, nc net.Conn, code ws.StatusCode) {
	t.Helper()
	for {
		f, err := readFrame(nc)
		if err != nil {
			t.Fatalf("got %v; want close code %d", err, code)
		}
		if f.Header.OpCode != ws.OpClose {
			continue
		}
		if got, reason := ws.ParseCloseFrameData(f.Payload); got != code {
			t.Errorf("got close code %d %q, want %d", got, reason, code)
		}
		return
	}
}

// TestFraming breaks RFC 6455 in each way that a server must not let pass.
func TestFraming(t *testing.T) { eachHalf(t, testFraming) }

func testFraming(t *testing.T) {
	r := newRig(t, Options{})
	masked := func(h ws.Header, p string) []byte {
		h.Masked, h.Mask, h.Length = true, [4]byte{1, 2, 3, 4}, int64(len(p))
		b := []byte(p)
		ws.Cipher(b, h.Mask, 0)
		var out strings.Builder
		if err := ws.WriteHeader(&out, h); err != nil {
			t.Fatal(err)
		}
		return append([]byte(out.String()), b...)
	}
	for name, test := range map[string]struct {
		bytes []byte
		code  ws.StatusCode
	}{
		"no mask":             {ws.MustCompileFrame(ws.NewTextFrame([]byte("{}"))), 1002},
		"reserved bit":        {masked(ws.Header{Fin: true, Rsv: 4, OpCode: ws.OpText}, "{}"), 1002},
		"reserved opcode":     {masked(ws.Header{Fin: true, OpCode: 3}, "{}"), 1002},
		"continues nothing":   {masked(ws.Header{Fin: true, OpCode: ws.OpContinuation}, "{}"), 1002},
		"fragmented ping":     {masked(ws.Header{OpCode: ws.OpPing}, ""), 1002},
		"long ping":           {masked(ws.Header{Fin: true, OpCode: ws.OpPing}, strings.Repeat("x", 126)), 1002},
		"close of one byte":   {masked(ws.Header{Fin: true, OpCode: ws.OpClose}, "x"), 1002},
		"close code 1005":     {masked(ws.Header{Fin: true, OpCode: ws.OpClose}, "\x03\xed"), 1002},
		"close in two starts": {append(masked(ws.Header{OpCode: ws.OpText}, "{"), masked(ws.Header{Fin: true, OpCode: ws.OpText}, "}")...), 1002},
		"close":               {masked(ws.Header{Fin: true, OpCode: ws.OpClose}, "\x0f\xa1bye"), 4001},
		"close without code":  {masked(ws.Header{Fin: true, OpCode: ws.OpClose}, ""), 1000},
	} {
		t.Run(name, func(t *testing.T) {
			nc := r.rawDial()
			if _, err := nc.Write(test.bytes); err != nil {
				t.Fatal(err)
			}
			wantClose(t, nc, test.code)
		})
	}
}

// TestClaims sends claims and hears their outcomes, and no more than may be in
// flight.
func TestClaims(t *testing.T) { eachCodec(t, testClaims) }

func testClaims(t *testing.T) {
	r := newRig(t, Options{ClaimsMax: 3})
	c := r.dial()
	if got := c.hello(`,"token":"token-ana"`); got.Player != "ana" {
		t.Errorf("got %s; want player ana", got.raw)
	}
	send := func(id int) {
		c.send(fmt.Sprintf(`{"type":"claim","id":"c%d","hunt":"oslo","map":1,"tile":%d}`, id, id))
	}
	send(0)
	if got := c.want("outcome"); got.ID != "c0" || got.Outcome != "gone" || got.Winner != "ana" {
		t.Errorf("got %s", got.raw)
	}
	r.edge.mu.Lock()
	r.edge.hold = true
	r.edge.mu.Unlock()
	for id := range 4 {
		send(id)
	}
	if got := c.want("error"); got.Code != codeTooManyClaims || got.ID != "c3" {
		t.Errorf("got %s; want the fourth claim refused", got.raw)
	}
	r.edge.mu.Lock()
	r.edge.hold = false
	for _, answer := range r.edge.held {
		answer()
	}
	r.edge.mu.Unlock()
	for id := range 3 {
		if got := c.want("outcome"); got.ID != fmt.Sprintf("c%d", id) {
			t.Errorf("got %s; want the outcome of c%d", got.raw, id)
		}
	}
	send(9)
	if got := c.want("outcome"); got.ID != "c9" {
		t.Errorf("got %s; want the outcome of c9", got.raw)
	}
}

// TestReplyAfterTheEnd answers a claim whose connection is long gone.
func TestReplyAfterTheEnd(t *testing.T) { eachHalf(t, testReplyAfterTheEnd) }

func testReplyAfterTheEnd(t *testing.T) {
	r := newRig(t, Options{})
	r.edge.hold = true
	c := r.dial()
	c.hello(`,"token":"token-ana"`)
	c.send(`{"type":"claim","id":"1","hunt":"oslo","map":1,"tile":0}`)
	r.until("the claim is in flight", func() bool {
		r.edge.mu.Lock()
		defer r.edge.mu.Unlock()
		return len(r.edge.held) == 1
	})
	c.ws.CloseNow()
	r.until("the client is gone", func() bool { return r.metric("cairn_broadcast_connections") == 0 })
	r.edge.held[0]()
}

// TestSilence: a client that answers pings is kept, and one that does not is
// hung up on.
func TestSilence(t *testing.T) { eachHalf(t, testSilence) }

func testSilence(t *testing.T) {
	r := newRig(t, Options{PingEvery: 50 * time.Millisecond, DeadAfter: 600 * time.Millisecond})
	alive := r.dial()
	alive.hello("")
	go alive.ws.Read(context.Background()) // answers pings, until the test's end
	dead := r.rawDial()
	if err := wsutil.WriteClientText(dead, []byte(`{"type":"hello"}`)); err != nil {
		t.Fatal(err)
	}
	pings := 0
	for {
		f, err := readFrame(dead)
		if err != nil {
			break
		}
		if f.Header.OpCode == ws.OpPing {
			pings++
		}
	}
	if pings == 0 {
		t.Error("got no ping before the end")
	}
	r.until("the one that answers is left", func() bool { return r.metric("cairn_broadcast_connections") == 1 })
	r.until("the connection is counted", func() bool { return r.metric("cairn_broadcast_closes_total") == 1 })
}

// TestWatchAgain replaces what a client watches, and ends it.
func TestWatchAgain(t *testing.T) { eachCodec(t, testWatchAgain) }

func testWatchAgain(t *testing.T) {
	r := newRig(t, Options{})
	m := r.open("u4xsu", "9q8yy", "dr5ru")
	c, _ := r.join("u4")
	c.send(watchText(false, "9q", "dr"))
	if snap := c.want("snapshot"); len(snap.Maps[0].Tiles) != 2 || !slices.Equal(snap.Regions, []string{"9q", "dr"}) {
		t.Errorf("got %s; want the two tiles of 9q and dr", snap.raw)
	}
	r.claim(r.claimOf(m, 0, "ana"), r.claimOf(m, 1, "bo"))
	if d := c.want("delta"); d.Region != "9q" || len(d.Claimed) != 1 || d.Claimed[0].Player != "bo" {
		t.Errorf("got %s; want bo's claim in 9q", d.raw)
	}
	c.send(watchText(false))
	c.send(`{"type":"ping"}`)
	c.want("pong")
	r.claim(r.claimOf(m, 2, "cy"))
	r.sweep()
	c.send(`{"type":"ping"}`)
	if got, err := c.read(); err != nil || got.Type != "pong" {
		t.Errorf("got %s, %v; want nothing but a pong after it watches nothing", got.raw, err)
	}
	regions := make([]string, 0, 64)
	for _, a := range "0123456789bcdefg" {
		for _, b := range "0123" {
			regions = append(regions, string(a)+string(b))
		}
	}
	c.send(watchText(false, regions...))
	c.want("snapshot")
	r.change(changeCreate("bergen"))
	r.until("bergen is known", func() bool { return r.hub.Hunt("bergen") != nil })
	c.send(`{"type":"watch","hunt":"bergen","regions":["u4"]}`)
	if got := c.want("error"); got.Code != wire.FrameInvalidField || !strings.Contains(got.Detail, "regions: would be 65") {
		t.Errorf("got %s; want the 65th region refused", got.raw)
	}
}

// TestNotReady: who comes too early or too late is sent away with a code.
func TestNotReady(t *testing.T) {
	h := New(nil, Options{})
	for _, test := range []struct {
		do   func()
		want error
		code ws.StatusCode
	}{
		{func() {}, ErrNotReady, 1013},
		{func() { h.draining.Store(true) }, ErrDraining, 1012},
	} {
		test.do()
		client, server := net.Pipe()
		served := make(chan error, 1)
		go h.Serve(server, nil, JSON, nil, func(err error) { served <- err })
		wantClose(t, client, test.code)
		client.Close()
		if err := <-served; !errors.Is(err, test.want) || !errors.Is(h.Ready(), test.want) {
			t.Errorf("got %v and ready %v, want %v", err, h.Ready(), test.want)
		}
	}
}
