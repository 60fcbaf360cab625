package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire/livepb"
)

// liveProtocol is what most clients here ask for.
const liveProtocol = "cairn.v1.json"

// A socket is a WebSocket of an independent client.
type socket struct {
	t testing.TB
	c *websocket.Conn
}

func (g *game) dial(header http.Header) (*socket, *http.Response, error) {
	g.t.Helper()
	return g.dialAt(g.public.URL, header)
}

// dialAt dials the game where it is served at a URL.
func (g *game) dialAt(url string, header http.Header) (*socket, *http.Response, error) {
	g.t.Helper()
	c, res, err := websocket.Dial(context.Background(), url+"/v1/live", &websocket.DialOptions{
		Subprotocols: []string{"other", liveProtocol}, HTTPHeader: header,
	})
	if err != nil {
		return nil, res, err
	}
	g.t.Cleanup(func() { c.CloseNow() })
	c.SetReadLimit(1 << 20)
	return &socket{g.t, c}, res, nil
}

func (s *socket) send(format string, args ...any) {
	s.t.Helper()
	if err := s.c.Write(context.Background(), websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
		s.t.Fatal(err)
	}
}

// until reads frames up to the first of a type.
func (s *socket) until(kind string) map[string]any {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		_, b, err := s.c.Read(ctx)
		if err != nil {
			s.t.Fatalf("waiting for %s: %v", kind, err)
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			s.t.Fatalf("%v in %s", err, b)
		}
		if m["type"] == kind {
			return m
		}
	}
}

// TestLiveProto: a client that asks for it speaks cairn.v1.proto, and the one
// that it likes best if it offers both.
func TestLiveProto(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap)
	_, token := g.signIn("ana")
	dial := func(offers ...string) *websocket.Conn {
		c, _, err := websocket.Dial(t.Context(), g.public.URL+"/v1/live", &websocket.DialOptions{Subprotocols: offers})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.CloseNow() })
		return c
	}
	for _, offers := range [][]string{nil, {"cairn.v1.json"}, {"cairn.v1.json", "cairn.v1.proto"}, {"other", "cairn.v1.proto"}} {
		want := ""
		if len(offers) > 0 {
			want = strings.Replace(offers[0], "other", "cairn.v1.proto", 1)
		}
		if got := dial(offers...).Subprotocol(); got != want {
			t.Errorf("of %q the server chose %q, want %q", offers, got, want)
		}
	}
	c := dial("cairn.v1.proto", "cairn.v1.json")
	send := func(f *livepb.ClientFrame) {
		t.Helper()
		b, err := proto.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Write(t.Context(), websocket.MessageBinary, b); err != nil {
			t.Fatal(err)
		}
	}
	next := func() *livepb.ServerFrame {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		kind, b, err := c.Read(ctx)
		if err != nil || kind != websocket.MessageBinary {
			t.Fatalf("got a message of kind %v, %v", kind, err)
		}
		var f livepb.ServerFrame
		if err := proto.Unmarshal(b, &f); err != nil {
			t.Fatal(err)
		}
		return &f
	}
	send(&livepb.ClientFrame{Frame: &livepb.ClientFrame_Hello{Hello: &livepb.Hello{Token: token}}})
	if w := next().GetWelcome(); w.GetPlayer() == "" || w.GetEpoch() == "" {
		t.Errorf("got %v, want a player's welcome", w)
	}
	send(&livepb.ClientFrame{Frame: &livepb.ClientFrame_Claim{Claim: &livepb.Claim{Id: "1", Hunt: "oslo", Map: int64(m.Tick), ClaimId: "c"}}})
	if o := next().GetOutcome(); o.GetId() != "1" || o.GetOutcome() != livepb.Verdict_VERDICT_WON || o.GetClaimId() != "c" || o.GetReward() != 10 || o.GetOffset() == "" {
		t.Errorf("got %v, want tile 0 won", o)
	}
	if err := c.Write(t.Context(), websocket.MessageText, []byte(`{"type":"ping"}`)); err != nil {
		t.Fatal(err)
	}
	if e := next().GetError(); e.GetCode() != "binary" {
		t.Errorf("got %v for a text message, want an error", e)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("got %v after a text message, want close code 1003", err)
	}
}

func TestLiveClaims(t *testing.T) {
	g := newGame(t, nil)
	m := g.openMap(0, cairn.Tap, cairn.Tap)
	ana, token := g.signIn("ana")
	_, bo := g.signIn("bo")
	g.post(bo, claimsPath(), fmt.Sprintf(`{"map":%d,"tile":1}`, m.Tick))
	s, _, err := g.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.c.Subprotocol(); got != liveProtocol {
		t.Errorf("the subprotocol is %q, want %q", got, liveProtocol)
	}
	s.send(`{"type":"hello","token":%q}`, token)
	if w := s.until("welcome"); w["player"] != string(ana.id) {
		t.Errorf("got %v, want a welcome of %s", w, ana.id)
	}
	s.send(`{"type":"claim","id":"1","hunt":"oslo","map":%d,"tile":0,"claim_id":"c"}`, m.Tick)
	won := s.until("outcome")
	if won["id"] != "1" || won["outcome"] != "won" || won["claim_id"] != "c" || won["reward"] != 10.0 {
		t.Errorf("got %v, want tile 0 won", won)
	}
	// In the words of POST claims, offset and all.
	same := g.post(token, claimsPath(), fmt.Sprintf(`{"map":%d,"tile":0,"claim_id":"c"}`, m.Tick))
	for name, v := range same.json {
		if won[name] != v {
			t.Errorf("%s is %v on the socket and %v over HTTP", name, won[name], v)
		}
	}
	s.send(`{"type":"claim","id":"2","hunt":"oslo","map":%d,"tile":1}`, m.Tick)
	if o := s.until("outcome"); o["id"] != "2" || o["outcome"] != "gone" || o["winner_name"] != "bo" {
		t.Errorf("got %v, want tile 1 gone to bo", o)
	}
	s.send(`{"type":"claim","id":"3","hunt":"oslo","map":%d,"tile":0,"claim_id":"a\u0000"}`, m.Tick)
	if e := s.until("error"); e["id"] != "3" || e["code"] != "invalid_field" || !strings.HasPrefix(fmt.Sprint(e["detail"]), "claim_id: ") {
		t.Errorf("got %v, want the claim id refused", e)
	}
	for i := range 60 {
		s.send(`{"type":"claim","id":"x%d","hunt":"oslo","map":%d,"tile":1}`, i, m.Tick)
		if o := s.until("outcome"); o["outcome"] == "throttled" {
			if o["retry_after_ms"].(float64) <= 0 {
				t.Errorf("throttled without a wait: %v", o)
			}
			return
		}
	}
	t.Error("60 claims at once were not throttled")
}

func TestLiveNeedsAToken(t *testing.T) {
	g := newGame(t, nil)
	s, _, err := g.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.send(`{"type":"hello","token":"not.a.token"}`)
	if e := s.until("error"); e["code"] == "" || !strings.Contains(fmt.Sprint(e["detail"]), "token") {
		t.Errorf("got %v, want an error about the token", e)
	}
}

func TestLiveOrigins(t *testing.T) {
	g := newGame(t, func(o *Options) { o.Origins = []string{"https://play.example"} })
	for origin, want := range map[string]int{
		"":                             101,
		"same":                         101,
		"https://play.example":         101,
		"https://evil.example":         403,
		"https://play.example.evil":    403,
		"null":                         403,
		"http://127.0.0.1":             403, // another port is another origin
		"https://play.example.":        403,
		"https://evil.example/x?\"'<>": 403,
	} {
		h := http.Header{}
		if origin == "same" {
			origin = g.public.URL
		}
		if origin != "" {
			h.Set("Origin", origin)
		}
		s, res, err := g.dial(h)
		if res == nil || res.StatusCode != want {
			t.Errorf("origin %q: got %v, %v, want %d", origin, res, err, want)
		}
		if s != nil {
			s.c.CloseNow()
		}
	}
}

// TestLiveHandshake sends upgrades by hand, each wrong in one way.
func TestLiveHandshake(t *testing.T) {
	g := newGame(t, nil)
	good := map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "cairn.v1.json",
	}
	shake := func(change map[string]string) (*http.Response, *bufio.Reader, net.Conn) {
		c, err := net.Dial("tcp", strings.TrimPrefix(g.public.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		req := request(t, "GET", g.public.URL+"/v1/live", "", "")
		for _, set := range []map[string]string{good, change} {
			for k, v := range set {
				req.Header.Set(k, v)
				if v == "" {
					req.Header.Del(k)
				}
			}
		}
		// A frame that comes with the handshake must not be lost: ping, masked with zeros.
		var b strings.Builder
		req.Write(&b)
		b.WriteString("\x89\x82\x00\x00\x00\x00hi")
		if _, err := c.Write([]byte(b.String())); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(c)
		res, err := http.ReadResponse(r, req)
		if err != nil {
			t.Fatal(err)
		}
		return res, r, c
	}
	res, r, c := shake(nil)
	if res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || res.Header.Get("Sec-WebSocket-Protocol") != liveProtocol {
		t.Fatalf("got %v", res)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	pong := make([]byte, 4)
	if _, err := r.Read(pong); err != nil || string(pong) != "\x8a\x02hi" {
		t.Errorf("got %q, %v, want the pong", pong, err)
	}
	for what, x := range map[string]struct {
		change map[string]string
		status int
	}{
		"no upgrade":          {map[string]string{"Upgrade": ""}, 426},
		"no connection":       {map[string]string{"Connection": "close"}, 426},
		"version 8":           {map[string]string{"Sec-WebSocket-Version": "8"}, 426},
		"no version":          {map[string]string{"Sec-WebSocket-Version": ""}, 426},
		"no key":              {map[string]string{"Sec-WebSocket-Key": ""}, 400},
		"short key":           {map[string]string{"Sec-WebSocket-Key": "abc"}, 400},
		"another subprotocol": {map[string]string{"Sec-WebSocket-Protocol": "graphql-ws"}, 400},
	} {
		res, _, _ := shake(x.change)
		if res.StatusCode != x.status || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %v, want a problem %d", what, res, x.status)
		}
	}
}
