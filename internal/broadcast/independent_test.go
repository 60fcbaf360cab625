package broadcast

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/veltrix/cairn/internal/wire"
)

// TestIndependentClient holds conversations with a client that shares no code
// with the hub, where such clients differ: in how they cut messages, ping, and
// close.
func TestIndependentClient(t *testing.T) { eachCodec(t, testIndependentClient) }

func testIndependentClient(t *testing.T) {
	r := newRig(t, Options{})
	for name, hold := range map[string]func(*testing.T, *client){
		"a message that it writes in parts": func(t *testing.T, c *client) {
			c.inParts(`{"type":"claim","id":"κόσμε","hunt":"oslo","map":1,"tile":7}`, 1)
			if got := c.want("error"); got.Code != codeUnauthorized || got.ID != "κόσμε" {
				t.Errorf("got %s; want the claim's id back", got.raw)
			}
		},
		"pings": func(t *testing.T, c *client) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			gone := c.ws.CloseRead(ctx) // reads pongs
			for range 10 {
				if err := c.ws.Ping(ctx); err != nil {
					t.Error(err)
				}
			}
			if gone.Err() != nil {
				t.Error("the connection ended")
			}
		},
		"too much": func(t *testing.T, c *client) {
			kind := websocket.MessageText
			if c.codec == Proto {
				kind = websocket.MessageBinary
			}
			if err := c.ws.Write(t.Context(), kind, []byte(strings.Repeat(" ", 1<<20))); err != nil {
				t.Log(err) // the server may be gone by then
			}
			if code, said := c.closed(); code != websocket.StatusMessageTooBig || fmt.Sprint(said) != "["+codeTooLarge+"]" {
				t.Errorf("got close code %d after %q; want 1009 after %s", code, said, codeTooLarge)
			}
		},
		"4 KiB in parts": func(t *testing.T, c *client) {
			c.send(`{"type":"ping"}`)
			c.want("pong")
			c.inParts(`{"type":"ping"`+strings.Repeat(" ", wire.FrameBytesMax-15)+`}`, 997)
			c.want("pong")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial()
			c.t = t
			c.hello("")
			hold(t, c)
			c.ws.CloseNow()
		})
	}
	for _, code := range []websocket.StatusCode{1000, 1001, 1008, 3000, 4999} {
		c := r.dial()
		c.hello("")
		if err := c.ws.Close(code, "goodbye"); err != nil {
			t.Errorf("close with %d: %v; want it said back", code, err)
		}
	}
	r.until("all are gone", func() bool { return r.hub.Connections() == 0 })
}

// inParts sends a message in frames of n bytes.
func (c *client) inParts(text string, n int) {
	c.t.Helper()
	kind, b := websocket.MessageText, []byte(text)
	if c.codec == Proto {
		kind = websocket.MessageBinary
		b, _ = protoOf(text)
	}
	w, err := c.ws.Writer(c.t.Context(), kind)
	if err != nil {
		c.t.Fatal(err)
	}
	for len(b) > 0 {
		m := min(n, len(b))
		if _, err := w.Write(b[:m]); err != nil {
			c.t.Fatal(err)
		}
		b = b[m:]
	}
	if err := w.Close(); err != nil {
		c.t.Fatal(err)
	}
}

// TestCompressionIsDeclined is Autobahn's groups 12 and 13: there is no
// compression, whoever offers it; and so its bit stays reserved.
func TestCompressionIsDeclined(t *testing.T) { eachHalf(t, testCompressionIsDeclined) }

func testCompressionIsDeclined(t *testing.T) {
	r := newRig(t, Options{})
	for _, offer := range []string{
		"permessage-deflate", "permessage-deflate; client_max_window_bits; server_no_context_takeover", "x-webkit-deflate-frame, permessage-deflate",
	} {
		nc, err := net.Dial("tcp", r.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(nc, "GET /v1/live HTTP/1.1\r\nHost: cairn\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: cairn.v1.json\r\nSec-WebSocket-Extensions: %s\r\n\r\n", offer)
		br := bufio.NewReader(nc)
		answer, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := answer.Header.Get("Sec-WebSocket-Accept"); answer.StatusCode != http.StatusSwitchingProtocols || got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
			t.Fatalf("%s: got %s, accept %q", offer, answer.Status, got)
		}
		if got := answer.Header.Get("Sec-WebSocket-Extensions"); got != "" {
			t.Errorf("%s: got extensions %q, want none", offer, got)
		}
		s := speech(JSON)
		if _, err := nc.Write(glue(maskedFrame(opText, true, []byte(`{"type":"hello"}`)), rawFrame(finBit|0x40|opText, s.claim("1")))); err != nil {
			t.Fatal(err)
		}
		if h, err := readHeard(br); err != nil || (want{kind: "welcome"}).check(h, s) != nil {
			t.Errorf("%s: got %q, %v; want a welcome", offer, h.payload, err)
		}
		if err := wantEnd(br, broken); err != nil {
			t.Errorf("%s: %v", offer, err)
		}
		nc.Close()
	}
}
