package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/veltrix/cairn/internal/lab"
	"github.com/veltrix/cairn/internal/trail"
)

// A collector is the other end of OTLP over HTTP: it keeps the spans it gets.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []collected
}

// A collected is a span, and the process that it is of.
type collected struct {
	*tracepb.Span
	service, instance string
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body []byte
		zipped, err := gzip.NewReader(r.Body)
		if err == nil {
			body, err = io.ReadAll(zipped)
		}
		var data tracepb.TracesData // on the wire, an ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s of %s: %v", r.Method, r.URL, r.Header.Get("Content-Type"), err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, rs := range data.ResourceSpans {
			of := map[string]string{}
			for _, kv := range rs.Resource.Attributes {
				of[kv.Key] = kv.Value.GetStringValue()
			}
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					c.spans = append(c.spans, collected{s, of["service.name"], of["service.instance.id"]})
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// find returns the first span of a service and a name that is as wanted, if it
// has come.
func (c *collector) find(service, name string, want func(*tracepb.Span) bool) (collected, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.spans, func(s collected) bool { return s.service == service && s.Name == name && want(s.Span) })
	if i < 0 {
		return collected{}, false
	}
	return c.spans[i], true
}

func textOf(s *tracepb.Span, key string) string {
	for _, kv := range s.Attributes {
		if kv.Key == key {
			return kv.Value.GetStringValue()
		}
	}
	return ""
}

// traced starts a generator, a claims process and a gateway on a Redis, with a
// hunt, and returns the gateway as a process to call.
func traced(t *testing.T, args ...string) (p *process, gateway, claims *lab.Role, redis *lab.Redis) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(lab.Options{Bin: bin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	if redis, err = l.StartRedis(ctx, "redis"); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(l.Dir, "keys.json")
	if code, _, said := running(t, "log", "init", "--log", redis.URL(), "--shards-max", "2", "--keys", keys); code != exitDone {
		t.Fatalf("log init: %s", said)
	}
	roles := map[string]*lab.Role{}
	for _, role := range []string{"generator", "claims", "gateway"} {
		argv := []string{"--log", redis.URL(), "--keys", keys, "--log-format", "json"}
		switch role {
		case "claims":
			argv = append(argv, args...)
		case "gateway":
			argv = append(append(argv, args...), "--ledger", "sqlite:"+filepath.Join(l.Dir, "ledger.db"), "--guests", "--trace-ratio", "1")
		}
		if roles[role], err = l.StartRole(ctx, role, role+"-1", argv...); err != nil {
			t.Fatal(err)
		}
	}
	gateway, claims = roles["gateway"], roles["claims"]
	hunt := write(t, "race.yaml", strings.Replace(raceHunt, "tiles_per_map: 20", "tiles_per_map: 20\nshards: 2", 1))
	if code, _, said := running(t, "hunt", "create", "--admin", "http://"+gateway.Admin, hunt); code != exitDone {
		t.Fatalf("hunt create: %s", said)
	}
	if err := gateway.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return &process{t: t, public: "http://" + gateway.Listen, admin: "http://" + gateway.Admin}, gateway, claims, redis
}

// TestTracesOfAFleet: a claim that goes from a gateway to another process is one
// trace, told over OTLP: request, hop, owner, shard and append, each below the
// one before, and the append linked with the shard's span. What players are
// called is nowhere in it. The requests' ids are in both processes' logs of what
// was not decided.
func TestTracesOfAFleet(t *testing.T) {
	to := newCollector(t)
	p, gateway, claims, redis := traced(t, "--traces", to.URL)
	player, token := p.signIn("secret-ana")
	m := p.call("GET", "/v1/hunts/race/maps/current", "", "")
	a := p.call("POST", "/v1/hunts/race/claims", token, fmt.Sprintf(`{"map":%d,"tile":%d,"claim_id":"secret-1"}`, m.Tick, m.Tiles[0].Index))
	if a.Outcome != "won" {
		t.Fatalf("claim: got %+v, want it won", a)
	}
	var at, hop, owner, shard, append_ collected
	below := func(of *collected) func(*tracepb.Span) bool {
		return func(s *tracepb.Span) bool {
			return string(s.ParentSpanId) == string(of.SpanId) && string(s.TraceId) == string(of.TraceId)
		}
	}
	p.until("all spans have come", func() (ok bool) {
		if at, ok = to.find("cairn-gateway", "POST /v1/hunts/{hunt}/claims", func(s *tracepb.Span) bool { return len(s.ParentSpanId) == 0 }); !ok {
			return false
		}
		if hop, ok = to.find("cairn-gateway", trail.SpanAsk, below(&at)); !ok {
			return false
		}
		if owner, ok = to.find("cairn-claims", trail.SpanOwner, below(&hop)); !ok {
			return false
		}
		if shard, ok = to.find("cairn-claims", trail.SpanDecide, below(&owner)); !ok {
			return false
		}
		append_, ok = to.find("cairn-claims", trail.SpanAppend, below(&shard))
		return ok
	})
	if at.instance != gateway.Name || append_.instance != claims.Name {
		t.Errorf("the spans are of %q and %q, want %q and %q", at.instance, append_.instance, gateway.Name, claims.Name)
	}
	if len(append_.Links) != 1 || string(append_.Links[0].SpanId) != string(shard.SpanId) || len(shard.Links) != 1 || string(shard.Links[0].SpanId) != string(append_.SpanId) {
		t.Errorf("the append is linked with %v and the shard's span with %v, want each with the other", append_.Links, shard.Links)
	}
	epochSeq := textOf(append_.Span, string(trail.KeyOffset))
	if parts := strings.Split(a.Offset, "/"); len(parts) != 3 || parts[1] != epochSeq {
		t.Errorf("the append is at %q, want that of %q", epochSeq, a.Offset)
	}
	id := textOf(at.Span, string(trail.KeyRequest))
	if id == "" || textOf(owner.Span, string(trail.KeyRequest)) != id {
		t.Errorf("the request is %q at the gateway and %q at the owner", id, textOf(owner.Span, string(trail.KeyRequest)))
	}
	to.mu.Lock()
	for _, s := range to.spans {
		if text := s.String(); strings.Contains(text, "secret") || strings.Contains(text, player) {
			t.Errorf("a span says who it was: %s", text)
		}
	}
	to.mu.Unlock()

	// Without its log an owner can't decide: both say so of the same request.
	if err := redis.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", p.public+"/v1/hunts/race/claims", strings.NewReader(fmt.Sprintf(`{"map":%d,"tile":%d}`, m.Tick, m.Tiles[1].Index)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}, "X-Request-Id": {"find-me"}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	for _, r := range []*lab.Role{claims, gateway} {
		p.until(r.Name+" has a line of it", func() bool {
			said, err := os.ReadFile(r.Log)
			return err == nil && strings.Contains(string(said), `"request_id":"find-me"`)
		})
		cancel() // the owner has said so: the gateway need not ask on for all of 5 s
	}
	<-ended
	http.DefaultClient.CloseIdleConnections()
}

// TestTracesDown: a collector that can't be reached costs one line, and neither
// claims nor the end of the process.
func TestTracesDown(t *testing.T) {
	p := up(t, filepath.Join(t.TempDir(), "data"), "--hunt", write(t, "race.yaml", raceHunt), "--log-format", "json",
		"--traces", "http://127.0.0.1:1", "--trace-ratio", "1")
	_, token := p.signIn("ana")
	m := p.call("GET", "/v1/hunts/race/maps/current", "", "")
	for _, tile := range m.Tiles {
		if a := p.call("POST", "/v1/hunts/race/claims", token, fmt.Sprintf(`{"map":%d,"tile":%d}`, m.Tick, tile.Index)); a.Outcome != "won" {
			t.Errorf("claim: got %+v, want it won", a)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	p.interrupt()
	said := p.stderr.String()
	if n := strings.Count(said, "spans are lost"); n != 1 {
		t.Errorf("%d lines of lost spans, want 1:\n%s", n, said)
	}
}

// TestTraceFlags: what is wrong with them is named.
func TestTraceFlags(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for _, c := range []struct{ args, want string }{
		{"--traces=collector:4318", "http://127.0.0.1:4318"},
		{"--traces=http://", "http://127.0.0.1:4318"},
		{"--traces=http://127.0.0.1:1 --trace-ratio=2", "0 to 1"},
		{"--trace-ratio=NaN", "0 to 1"},
	} {
		args := append([]string{"up", "--data", dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, strings.Fields(c.args)...)
		wantUsage(t, args, strings.SplitN(strings.Fields(c.args)[len(strings.Fields(c.args))-1], "=", 2)[0], c.want)
	}
}
