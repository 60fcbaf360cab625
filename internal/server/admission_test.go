package server

import (
	"bufio"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAdmissionOfAStorm plays a storm on a clock of its own: all come at once,
// and each comes back when it is told to. All are taken as fast as the rate
// allows, and nobody is sent away again and again.
func TestAdmissionOfAStorm(t *testing.T) {
	const crowd, perSecond, burst = 60_000, 2000, 4000
	a := newAdmission(Admission{Connect: Rate{perSecond, burst}}, func() int { return 0 })
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	due := map[int64][]int{} // by millisecond, how often those who come were refused
	for i := range crowd {
		due[int64(i/200)] = append(due[int64(i/200)], 0) // within 0.3 s
	}
	taken, refused, most, last := 0, 0, 0, int64(0)
	for ms := int64(0); taken < crowd; ms++ {
		if ms > 300_000 {
			t.Fatalf("%d of %d are in after %d s", taken, crowd, ms/1000)
		}
		for _, times := range due[ms] {
			reason, after := a.take(now.Add(time.Duration(ms) * time.Millisecond))
			switch {
			case reason == "":
				taken, last = taken+1, ms
			case reason != shakeRate || after < 1 || after > backWithin:
				t.Fatalf("got %q, %d", reason, after)
			default:
				refused, most = refused+1, max(most, times+1)
				at := ms + int64(after)*1000
				due[at] = append(due[at], times+1)
			}
		}
		delete(due, ms)
	}
	// At best the last is in after (crowd − burst) ÷ rate = 28 s; a fifth of
	// the rate is kept for those who come first, so 35 s.
	if last > 40_000 || most > 3 || refused > crowd*5/4 {
		t.Errorf("the last is in after %d ms, somebody was refused %d times, all together %d times", last, most, refused)
	}
	t.Logf("%d are in after %d ms; refused at most %d times, all together %d times", crowd, last, most, refused)
}

// TestAdmissionBehindTheLongestWait spreads those for whom there is no place in
// the line.
func TestAdmissionBehindTheLongestWait(t *testing.T) {
	a := newAdmission(Admission{Connect: Rate{1, 1}}, func() int { return 0 })
	now := time.Now()
	seen := map[int]bool{}
	for range 3000 {
		if reason, after := a.take(now); reason != "" {
			if after < 1 || after > backWithin {
				t.Fatalf("told to come back after %d s", after)
			}
			seen[after] = true
		}
	}
	if len(seen) < backWithin*3/4 {
		t.Errorf("all were told one of %d times, want them spread", len(seen))
	}
}

func TestAdmissionWhenFull(t *testing.T) {
	n := 0
	a := newAdmission(Admission{Connect: Rate{PerSecond: -1}, ConnectionsMax: 100}, func() int { return n })
	var warned []int
	for _, n = range []int{0, 79, 80, 81, 100, 78, 90, 74, 80} {
		reason, after := a.take(time.Now())
		if full := n >= 100; (reason == shakeFull) != full || full && (after < 1 || after > backFull) {
			t.Errorf("at %d of 100: got %q, %d", n, reason, after)
		}
		if at, warn := a.crowded(); warn {
			warned = append(warned, at)
		}
	}
	if want := []int{80, 80}; !slices.Equal(warned, want) {
		t.Errorf("warned at %v, want at %v: once until there is room again", warned, want)
	}
}

// TestRefusedAlike wants a handshake that is not admitted to be refused by the
// front as by net/http.
func TestRefusedAlike(t *testing.T) {
	for _, c := range []struct {
		reason string
		tune   func(*Options)
		then   func(*game)
	}{
		{shakeRate, func(o *Options) { o.Admission.Connect = Rate{1e-9, 1} }, func(g *game) { g.server.admission.take(time.Now()) }},
		{shakeFull, func(o *Options) { o.Admission.ConnectionsMax = 1 }, func(g *game) {
			s, _, err := g.dial(nil)
			if err != nil {
				g.t.Fatal(err)
			}
			s.send(`{"type":"hello"}`)
			s.until("welcome")
		}},
		{shakeDraining, nil, func(g *game) { g.server.Drain() }},
	} {
		g := newGame(t, c.tune)
		plain, _ := g.serve(ServeOptions{})
		fronted := g.serveFront(g.server.Front)
		c.then(g)
		wait := func(text string) string { // differs from one to the next
			before, after, _ := strings.Cut(text, `Retry-After: ["`)
			seconds, after, ok := strings.Cut(after, `"]`)
			if !ok || seconds < "1" || len(seconds) > 2 {
				t.Errorf("%s: Retry-After is %q in %s", c.reason, seconds, text)
			}
			return before + after
		}
		want := wait(ask(t, plain, fastShakes["plain"], false))
		if !strings.HasPrefix(want, "HTTP/1.1 503 ") || !strings.Contains(want, `"code":"unavailable"`) {
			t.Errorf("%s: got %s, want a problem 503", c.reason, want)
		}
		if got := wait(ask(t, fronted, fastShakes["plain"], false)); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.reason, got, want)
		}
		g.eventually("both are counted", func() bool { return g.metric("cairn_edge_handshakes_refused_total", "reason", c.reason) == 2 })
	}
}

// FuzzHandshake holds what is read without net/http against net/http.
func FuzzHandshake(f *testing.F) {
	for _, shakes := range []map[string]string{fastShakes, otherShakes} {
		for _, s := range shakes {
			f.Add([]byte(strings.ReplaceAll(s, "HOST", "a.example")))
		}
	}
	h := newHandshake()
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > headerBytesMax || !h.read(b) {
			return
		}
		r := bufio.NewReaderSize(strings.NewReader(string(b)), headerBytesMax)
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Fatalf("%q was read, and net/http says: %v", b, err)
		}
		if req.Method != "GET" || req.RequestURI != "/v1/live" || req.Proto != "HTTP/1.1" || req.Host != h.req.Host || req.ContentLength != 0 {
			t.Errorf("%q was read; net/http has %+v", b, req)
		}
		for _, name := range shakeHeaders {
			if got, want := h.req.Header[name], req.Header[name]; !slices.Equal(got, want) {
				t.Errorf("%s of %q is %q; net/http has %q", name, b, got, want)
			}
		}
		if rest := len(b) - r.Buffered(); len(h.body) != r.Buffered() || string(h.body) != string(b[rest:]) {
			t.Errorf("behind %q stands %q; net/http has %q", b, h.body, b[rest:])
		}
	})
}
