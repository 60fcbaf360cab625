package server

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

func TestLimiterIsBounded(t *testing.T) {
	l := newLimiter[int](Rate{1, 2})
	now := time.Now()
	// A flood of keys, none of which is ever full again.
	for i := range limitShards * limitShardMax * 2 {
		l.take(i, now)
	}
	for i := range l.shards {
		if n := len(l.shards[i].m); n > limitShardMax {
			t.Errorf("shard %d holds %d keys, want at most %d", i, n, limitShardMax)
		}
	}
	// One who asks all the time is not forgotten by a trickle of others.
	later := now.Add(time.Hour)
	for range 2 {
		if l.take(-1, later) != 0 {
			t.Fatal("a burst of two is refused")
		}
	}
	if l.take(-1, later) == 0 {
		t.Fatal("the bucket is not empty after its burst")
	}
	for i := range 1000 {
		l.take(1_000_000_000+i, later)
		if l.take(-1, later) == 0 {
			t.Fatalf("a throttled key was forgiven after %d others", i)
		}
	}
}

func TestLimiterNone(t *testing.T) {
	l := newLimiter[string](Rate{PerSecond: -1})
	for range 1000 {
		if l.take("a", time.Time{}) != 0 {
			t.Fatal("no limit limits")
		}
	}
	if got := (Rate{}).or(defaultPlayerClaims); got != (Rate{20, 50}) {
		t.Errorf("the default is %+v, want 20/s, 50 at once", got)
	}
}

func TestAddress(t *testing.T) {
	s := &Server{}
	for remote, want := range map[string]struct {
		addr    string
		counted bool
	}{
		"127.0.0.1:9":                {"127.0.0.1", false},
		"127.8.0.1:9":                {"127.8.0.1", false},
		"[::1]:9":                    {"::1", false},
		"[::ffff:127.0.0.1]:9":       {"127.0.0.1", false},
		"192.0.2.7:9":                {"192.0.2.7", true},
		"[::ffff:192.0.2.7]:9":       {"192.0.2.7", true},
		"[2001:db8:1:2:3:4:5:6]:9":   {"2001:db8:1:2::", true},
		"[fe80::1:2:3%eth0]:9":       {"fe80::", true},
		"[2001:db8:1:2:ffff::1]:443": {"2001:db8:1:2::", true},
	} {
		got, counted := s.address(&http.Request{RemoteAddr: remote})
		if got != netip.MustParseAddr(want.addr) || counted != want.counted {
			t.Errorf("%s: got %v, %v, want %v, %v", remote, got, counted, want.addr, want.counted)
		}
	}
	if _, counted := s.address(&http.Request{RemoteAddr: "@"}); !counted {
		t.Error("an address that is not known must be counted")
	}
}

// TestAddressLimits asks from an address that is not loopback.
func TestAddressLimits(t *testing.T) {
	g := newGame(t, func(o *Options) {
		o.Limits = Limits{AddressClaims: Rate{0.001, 3}, AddressGuests: Rate{0.001, 2}}
	})
	g.withClaims(&scripted{})
	from := func(addr, token, path, body string) *httptest.ResponseRecorder {
		req := request(t, "POST", path, token, body)
		req.RemoteAddr = addr
		w := httptest.NewRecorder()
		g.server.Public().ServeHTTP(w, req)
		return w
	}
	for i, want := range []int{201, 201, 429} {
		if w := from("192.0.2.1:1", "", "/v1/players", `{"name":"ana"}`); w.Code != want || want == 429 && w.Header().Get("Retry-After") == "" {
			t.Errorf("sign-in %d: got %d %v, want %d", i, w.Code, w.Header(), want)
		}
	}
	if w := from("192.0.2.2:1", "", "/v1/players", `{"name":"ana"}`); w.Code != 201 {
		t.Errorf("another address: got %d", w.Code)
	}
	// Behind a proxy of the operator's each player is who the proxy says, and
	// nobody else can say so.
	g.server.opts.Limits.Proxies = Proxies{netip.MustParsePrefix("192.0.2.128/25")}
	for i, c := range []struct {
		from, says string
		want       int
	}{
		{"192.0.2.129:1", "198.51.100.1", 201},
		{"192.0.2.129:1", "198.51.100.1", 201},
		{"192.0.2.130:1", "198.51.100.1", 429}, // through another proxy
		{"192.0.2.129:1", "198.51.100.2", 201},
		{"192.0.2.1:1", "198.51.100.3", 429},
	} {
		req := request(t, "POST", "/v1/players", "", `{"name":"ana"}`)
		req.RemoteAddr = c.from
		req.Header.Set("X-Forwarded-For", c.says)
		w := httptest.NewRecorder()
		if g.server.Public().ServeHTTP(w, req); w.Code != c.want {
			t.Errorf("proxied sign-in %d: got %d, want %d", i, w.Code, c.want)
		}
	}
	var last *httptest.ResponseRecorder
	for range 4 { // each by another player, all behind one address
		_, token, err := g.server.tokens.signIn("bo")
		if err != nil {
			t.Fatal(err)
		}
		last = from("192.0.2.1:2", token, claimsPath(), `{"map":1,"tile":1}`)
	}
	if last.Code != http.StatusTooManyRequests || last.Header().Get("Retry-After") == "" {
		t.Errorf("the fourth attempt from one address: got %d, want 429", last.Code)
	}
	_, token := g.signIn("cy") // from loopback: exempt
	for range 10 {
		if a := g.post(token, claimsPath(), `{"map":1,"tile":1}`); a.status == http.StatusTooManyRequests {
			t.Fatalf("loopback is limited: %v", a)
		}
	}
}
