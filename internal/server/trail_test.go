package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/trail"
	"github.com/veltrix/cairn/internal/wire"
)

// A journal is log lines as they were written, one JSON object each.
type journal struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes.Write(b)
}

// lines returns the lines that have a message.
func (j *journal) lines(t *testing.T, msg string) (found []map[string]any) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range bytes.Lines(j.bytes.Bytes()) {
		m := map[string]any{}
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if m["msg"] == msg {
			found = append(found, m)
		}
	}
	return found
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TestRequestIDOfProblems: whoever writes a problem, it has its request's id
// (isProblem looks), and so have the log's lines of it.
func TestRequestIDOfProblems(t *testing.T) {
	var log journal
	g := newGame(t, func(o *Options) { o.Log = log.logger() })
	_, token := g.signIn("ana")
	for i, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/v1/nothing", "", 404, "not_found"},
		{"DELETE", "/v1/hunts", "", 405, "method_not_allowed"},
		{"GET", "/v1//hunts", "", 404, "not_found"},
		{"GET", "/v1/hunts?a=b", "", 400, "invalid"},
		{"GET", "/v1/hunts/nowhere", "", 404, "unknown_hunt"},
		{"GET", "/v1/hunts/oslo/standings?limit=0", "", 400, "invalid"},
		{"POST", claimsPath(), "{", 400, "invalid"},
		{"POST", "/v1/hunts/nowhere/claims", `{"map":1,"tile":1}`, 404, "unknown_tile"},
		{"GET", "/v1/live", "", 426, "upgrade_required"},
		{"GET", "/v1/events", "", 400, "invalid"},
	} {
		id := fmt.Sprint("test-", i)
		req := request(t, c.method, g.public.URL+c.path, token, c.body)
		req.Header.Set("X-Request-Id", id)
		a := g.do(req)
		isProblem(t, a, c.status, c.code)
		if got := a.header.Get("X-Request-Id"); got != id {
			t.Errorf("%s %s: the answer has id %q, want %q", c.method, c.path, got, id)
		}
		g.eventually("the access log has it", func() bool {
			return slices.ContainsFunc(log.lines(t, "http"), func(m map[string]any) bool { return m["request_id"] == id && m["status"] == float64(c.status) })
		})
	}
}

// TestRequestIDOfErrors: what goes wrong behind the edge is in the log with the
// id that the client was told.
func TestRequestIDOfErrors(t *testing.T) {
	var log journal
	g := newGame(t, func(o *Options) { o.Log = log.logger() })
	_, token := g.signIn("ana")
	path := claimsPath()
	g.withClaims(&scripted{err: claim.ErrUnavailable})
	check := func(a answer, msg string) {
		t.Helper()
		id := a.header.Get("X-Request-Id")
		lines := log.lines(t, msg)
		if n := len(lines); n == 0 || lines[n-1]["request_id"] != id || lines[n-1]["err"] == "" {
			t.Errorf("the log has %v, want a line %q of request %s", lines, msg, id)
		}
	}
	a := g.post(token, path, `{"map":1,"tile":1}`)
	isProblem(t, a, http.StatusServiceUnavailable, "unavailable")
	check(a, "a claim was not decided")
	g.withClaims(&scripted{verdict: cairn.Verdict{Outcome: cairn.Pending}})
	a = g.post(token, path, `[{"map":1,"tile":1},{"map":1,"tile":2}]`)
	check(a, "a claim was not decided")
	g.withClaims(&scripted{verdict: cairn.Verdict{Outcome: cairn.Closed}})
	n := len(log.lines(t, "a claim was not decided"))
	g.post(token, path, `{"map":1,"tile":1}`)
	if more := len(log.lines(t, "a claim was not decided")); n != 3 || more != n {
		t.Errorf("%d lines of three claims that were not decided, and then %d", n, more)
	}
}

// TestConnectionID: a WebSocket's id is its handshake's, which the 101 has, on
// either way; lines of its claims have it.
func TestConnectionID(t *testing.T) {
	var log journal
	g := newGame(t, func(o *Options) { o.Log, o.ClaimWithin = log.logger(), time.Millisecond })
	_, token := g.signIn("ana")
	g.withClaims(&scripted{err: errors.New("away")})
	fronted := g.serveFront(g.server.Front)
	plain := g.serveFront(func(ln net.Listener) net.Listener { return ln })
	for way, addr := range map[string]string{"fronted": fronted, "plain": plain} {
		for _, sent := range []string{"proxy-" + way, ""} {
			h := http.Header{}
			if sent != "" {
				h.Set("X-Request-Id", sent)
			}
			c, res, err := websocket.Dial(t.Context(), "ws://"+addr+"/v1/live", &websocket.DialOptions{Subprotocols: []string{liveProtocol}, HTTPHeader: h})
			if err != nil {
				t.Fatal(err)
			}
			id := res.Header.Get("X-Request-Id")
			if id == "" || sent != "" && id != sent {
				t.Errorf("%s: sent id %q, got %q", way, sent, id)
			}
			s := &socket{t, c}
			s.send(`{"type":"hello","token":%q}`, token)
			s.until("welcome")
			s.send(`{"type":"claim","id":"1","hunt":"oslo","map":1,"tile":1}`)
			s.until("outcome")
			g.eventually("the log has a line of the claim", func() bool {
				return slices.ContainsFunc(log.lines(t, "a claim was not decided"), func(m map[string]any) bool { return m["request_id"] == id })
			})
			if !slices.ContainsFunc(log.lines(t, "http"), func(m map[string]any) bool { return m["request_id"] == id && m["path"] == "/v1/live" }) && way == "fronted" {
				t.Errorf("%s: the access log does not have connection %s", way, id)
			}
			c.CloseNow()
		}
	}
}

// TestRequestSpans: requests and batches of a socket that the edge chooses have
// a span with what they are and how they ended, and nothing of who sent them.
func TestRequestSpans(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
	defer p.Shutdown(context.Background())
	g := newGame(t, func(o *Options) { o.Traces = trail.Edge{Tracer: p.Tracer("test"), Ratio: 1} })
	me, token := g.signIn("secret-ana")
	m := g.openMap(0, cairn.Tap, cairn.Tap)
	a := g.post(token, claimsPath(), fmt.Sprintf(`{"map":%d,"tile":0,"claim_id":"secret-1","answer":"secret"}`, m.Tick))
	g.get(token, "/v1/hunts/oslo/standings/"+string(me.id))
	res := httptest.NewRecorder()
	g.server.around(http.NewServeMux(), nil).ServeHTTP(res, httptest.NewRequest("GET", "/assets/app-1.js", nil))

	told := make(chan []byte, 2)
	e := &edge{s: g.server, id: connID{given: "c-1"}}
	e.Claims(t.Context(), me.id, "secret-ana", broadcast.JSON, []wire.ClaimFrame{
		{ID: "a", Hunt: testHunt, Map: m.Tick, Tile: 0}, {ID: "b", Hunt: testHunt, Map: m.Tick, Tile: 1},
	}, func(b []byte) { told <- bytes.Clone(b) })
	<-told
	<-told

	attributes := func(name string) map[string]any {
		t.Helper()
		got := map[string]any{}
		g.eventually("there is a span "+name, func() bool {
			for _, s := range rec.Ended() {
				if s.Name() == name {
					for _, kv := range s.Attributes() {
						got[string(kv.Key)] = kv.Value.AsInterface()
					}
					return true
				}
			}
			return false
		})
		return got
	}
	wants := map[string]map[string]any{
		"POST /v1/hunts/{hunt}/claims": {
			"http.request.method": "POST", "http.route": "/v1/hunts/{hunt}/claims", "http.response.status_code": int64(200),
			"cairn.request_id": a.header.Get("X-Request-Id"), "cairn.hunt": string(testHunt), "cairn.map": int64(m.Tick), "cairn.attempts": int64(1),
		},
		"GET /v1/hunts/{hunt}/standings/{player}": {"http.request.method": "GET"},
		trail.SpanLive: {"cairn.request_id": "c-1", "cairn.attempts": int64(2), "cairn.outcome.won": int64(2)},
	}
	for name, want := range wants {
		got := attributes(name)
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %s is %v, want %v", name, k, got[k], v)
			}
		}
	}
	for _, s := range rec.Ended() {
		text := fmt.Sprint(s.Name(), s.Attributes(), s.Events(), s.Status())
		if strings.Contains(text, "secret") || strings.Contains(text, string(me.id)) || strings.Contains(text, token) {
			t.Errorf("a span says who it was: %s", text)
		}
		if strings.Contains(text, "assets") {
			t.Errorf("the page has a span: %s", text)
		}
	}
}
