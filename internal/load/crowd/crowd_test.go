package crowd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// TestPlain: everyone gets what is said, whole or in parts, and it is timed.
func TestPlain(t *testing.T) { eachLink(t, testPlain) }

func testPlain(t *testing.T, portable bool) {
	f := newFake(t, script{})
	c := open(t, Options{Targets: []string{f.addr}, Dialect: Plain(), Portable: portable})
	const n = 200
	c.grow(n)
	f.say(stamped(1, 2), 1)
	f.say(stamped(2, 3), 4)
	long := strings.TrimSuffix(stamped(3, 4), "}") + fmt.Sprintf(`,"x":%q}`, strings.Repeat("x", 300_000))
	f.say(long, 3)
	s := c.until("all came", func(s *Stats) bool { return s.Deliveries == 3*n })
	if s.Latency.Count() != 3*n || s.Gaps != 0 || s.Connected != n || s.Ready != n || len(s.Errors) != 0 {
		t.Errorf("got %+v", s)
	}
	if want := int64(n * (2*len(stamped(1, 2)) + len(long))); s.Bytes != want {
		t.Errorf("got %d bytes, want %d", s.Bytes, want)
	}
	f.say(stamped(7, 8), 1)
	c.until("the gap shows", func(s *Stats) bool { return s.Gaps == n })
}

// TestAssembly: frames that are equal at first, and come in pieces of any size,
// are not mixed up.
func TestAssembly(t *testing.T) { eachLink(t, testAssembly) }

func testAssembly(t *testing.T, portable bool) {
	f := newFake(t, script{})
	c := open(t, Options{Targets: []string{f.addr}, Dialect: Plain(), Portable: portable})
	const n, kinds = 90, 3
	c.grow(n)
	f.mu.Lock()
	defer f.mu.Unlock()
	var frames [kinds][]byte
	for k := range frames {
		pad := strings.Repeat("x", 20_000)
		text := fmt.Sprintf(`{"pad":%q,"n":%d,"rest":%q,"from":0,"seq":%d}`, pad, k, pad, k+1)
		frames[k] = ws.MustCompileFrame(ws.NewTextFrame([]byte(text)))
	}
	at := make([]int, n)
	for left := n; left > 0; {
		i := rand.IntN(n)
		frame := frames[i%kinds]
		if at[i] == len(frame) {
			continue
		}
		to := min(len(frame), at[i]+1+rand.IntN(6000))
		_, _ = f.conns[i].Write(frame[at[i]:to])
		if at[i] = to; to == len(frame) {
			left--
		}
	}
	s := c.until("all came", func(s *Stats) bool { return s.Deliveries == n })
	if len(s.States) != kinds || s.Behind() != n-n/kinds || s.Faults() != nil {
		t.Errorf("got states %v, faults %v; want %d of each kind", s.States, s.Faults(), n/kinds)
	}
}

// TestDrop: those who are cut come back, and are counted as that.
func TestDrop(t *testing.T) { eachLink(t, testDrop) }

func testDrop(t *testing.T, portable bool) {
	f := newFake(t, script{})
	c := open(t, Options{Targets: []string{f.addr}, Dialect: Plain(), Portable: portable, Backoff: 10 * time.Millisecond, BackoffCap: 50 * time.Millisecond})
	const n = 100
	c.grow(n)
	if err := c.DropAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.until("all are back", func(s *Stats) bool { return s.Reconnects == n && s.Ready == n })
	f.mu.Lock()
	for _, x := range f.conns {
		_ = wsutil.WriteServerMessage(x, ws.OpClose, ws.NewCloseFrameBody(1012, "go"))
	}
	f.mu.Unlock()
	s := c.until("all are back again", func(s *Stats) bool { return s.Reconnects == 2*n && s.Ready == n })
	if s.Closes[1012] != n || s.Opened != 3*n {
		t.Errorf("got %+v", s)
	}
}

// TestRefused: one who is told to come again does, and not before.
func TestRefused(t *testing.T) { eachLink(t, testRefused) }

func testRefused(t *testing.T, portable bool) {
	f := newFake(t, script{head: func(n int) string {
		switch n {
		case 1:
			return "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
		case 2:
			return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
		case 3:
			return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n"
		case 4:
			return "mumble\r\n\r\n"
		}
		return ""
	}})
	c := open(t, Options{Targets: []string{f.addr}, Dialect: Plain(), Portable: portable, Backoff: time.Millisecond, BackoffCap: time.Millisecond})
	began := time.Now()
	c.grow(1)
	if took := time.Since(began); took < time.Second {
		t.Errorf("came back after %v; want the second of Retry-After to pass", took)
	}
	s := c.until("it is there", func(s *Stats) bool { return s.Ready == 1 })
	if s.Refused != 1 || len(s.Errors) != 3 {
		t.Errorf("got %+v; want one refusal and three kinds of errors", s)
	}
}

// TestControl: pings are answered, also in the middle of a message.
func TestControl(t *testing.T) { eachLink(t, testControl) }

func testControl(t *testing.T, portable bool) {
	f := newFake(t, script{speak: func(c net.Conn) {
		text := stamped(0, 1)
		frame := func(fin bool, op ws.OpCode, p string) {
			_ = ws.WriteFrame(c, ws.NewFrame(op, fin, []byte(p)))
		}
		frame(false, ws.OpText, text[:10])
		frame(true, ws.OpPing, "are you there")
		frame(false, ws.OpContinuation, text[10:20])
		frame(true, ws.OpContinuation, text[20:])
		h, err := ws.ReadHeader(c)
		b := make([]byte, h.Length)
		if _, rerr := c.Read(b); err != nil || rerr != nil {
			return
		}
		ws.Cipher(b, h.Mask, 0)
		if h.OpCode != ws.OpPong || string(b) != "are you there" {
			t.Errorf("got %v %q; want a pong", h.OpCode, b)
		}
		frame(true, ws.OpText, stamped(1, 2))
	}})
	c := open(t, Options{Targets: []string{f.addr}, Dialect: Plain(), Portable: portable})
	c.grow(3)
	s := c.until("all came", func(s *Stats) bool { return s.Deliveries == 6 })
	if s.Pings != 3 || s.Gaps != 0 || len(s.Errors) != 0 {
		t.Errorf("got %+v", s)
	}
}

// TestCentrifuge: its commands, pings and several replies in one message.
func TestCentrifuge(t *testing.T) { eachLink(t, testCentrifuge) }

func testCentrifuge(t *testing.T, portable bool) {
	f := newFake(t, script{hear: func(c net.Conn, message string) {
		switch {
		case strings.Contains(message, `"connect":{}`):
			_ = wsutil.WriteServerText(c, []byte(`{"id":1,"connect":{"client":"x","ping":25,"pong":true}}`))
		case strings.Contains(message, `"subscribe":{"channel":"deltas"}`):
			_ = wsutil.WriteServerText(c, []byte("{\"id\":2,\"subscribe\":{}}\n{}\n"))
		}
	}})
	c := open(t, Options{Targets: []string{f.addr}, Dialect: Centrifuge("deltas"), Portable: portable})
	const n = 20
	c.grow(n)
	push := func(from, seq int) string {
		return fmt.Sprintf(`{"push":{"channel":"deltas","pub":{"data":%s}}}`, stamped(from, seq))
	}
	f.say(push(0, 1)+"\n"+push(1, 2), 1)
	s := c.until("all came", func(s *Stats) bool { return s.Deliveries == 2*n })
	if s.Pings != n || s.Gaps != 0 || s.Latency.Count() != 2*n || len(s.Errors) != 0 {
		t.Errorf("got %+v", s)
	}
}

// TestStall: those who stall hear nothing, are not timed, and go on later.
func TestStall(t *testing.T) { eachLink(t, testStall) }

func testStall(t *testing.T, portable bool) {
	f := newFake(t, script{})
	c := open(t, Options{Targets: []string{f.addr}, Dialect: Plain(), Portable: portable, Stalled: 0.1})
	const n, stalled = 50, 10
	c.grow(n)
	if got, err := c.Stall(t.Context(), stalled); got != stalled || err != nil {
		t.Fatalf("got %d, %v", got, err)
	}
	f.say(stamped(0, 1), 1)
	s := c.until("the others have it", func(s *Stats) bool { return s.Deliveries == n-stalled })
	if s.Stalled != stalled {
		t.Errorf("got %d stalled", s.Stalled)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = c.until("all have it", func(s *Stats) bool { return s.Deliveries == n })
	if s.Latency.Count() != n-stalled || s.Stalled != 0 {
		t.Errorf("timed %d, want %d: what was late by our own fault must not count", s.Latency.Count(), n-stalled)
	}
}

// TestWorkers: a crowd in several processes is one.
func TestWorkers(t *testing.T) {
	f, g := newFake(t, script{}), newFake(t, script{})
	c := open(t, Options{Targets: []string{f.addr, "http://" + g.addr}, Dialect: Plain(), Worker: []string{os.Args[0]}, Workers: 2, PerProcess: 40, Backoff: time.Millisecond})
	if got := len(c.Pids()); got != 2 {
		t.Fatalf("got %d workers, want 2", got)
	}
	const n = 100
	c.grow(n / 2)
	c.grow(n / 2)
	if got := len(c.Pids()); got != 3 {
		t.Errorf("got %d workers, want 3 of at most 40 connections", got)
	}
	f.say(stamped(0, 1), 1)
	g.say(stamped(0, 1), 1)
	s := c.until("all came", func(s *Stats) bool { return s.Deliveries == n })
	if s.Latency.Count() != n || s.Connect.Count() != n {
		t.Errorf("got %+v", s)
	}
	f.mu.Lock()
	half := len(f.conns)
	f.mu.Unlock()
	if half < n/2-3 || half > n/2+3 {
		t.Errorf("%d of %d at one of two targets", half, n)
	}
	if err := c.DropAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.until("all are back", func(s *Stats) bool { return s.Reconnects == n && s.Ready == n })
}

// TestGrowEnds: where nobody listens, growing ends with its context.
func TestGrowEnds(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	for name, worker := range map[string][]string{"here": nil, "worker": {os.Args[0]}} {
		t.Run(name, func(t *testing.T) {
			c := open(t, Options{Targets: []string{addr}, Dialect: Plain(), Worker: worker, Backoff: time.Millisecond, BackoffCap: 5 * time.Millisecond})
			ctx, cancel := context.WithCancel(t.Context())
			grown := make(chan error, 1)
			go func() { grown <- c.Grow(ctx, 5, 1000) }()
			c.until("it is refused", func(s *Stats) bool { return s.Errors["connection refused"] >= 10 })
			cancel()
			if err := <-grown; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's error", err)
			}
		})
	}
}

// TestWorkerGone: a worker that is killed is an error, and nothing hangs.
func TestWorkerGone(t *testing.T) {
	f := newFake(t, script{})
	c, err := Open(t.Context(), Options{Targets: []string{f.addr}, Dialect: Plain(), Worker: []string{os.Args[0]}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Grow(t.Context(), 3, 0); err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(c.Pids()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "it shows", func() bool { _, err := c.Window(t.Context()); return errors.Is(err, errWorkerGone) })
	if err := c.Grow(t.Context(), 1, 0); !errors.Is(err, errWorkerGone) {
		t.Errorf("got %v", err)
	}
	if err := c.Close(); err == nil {
		t.Error("closed without a word of the worker that was killed")
	}
}

// TestOptions: what can't work is said.
func TestOptions(t *testing.T) {
	ok := Options{Targets: []string{"127.0.0.1:1"}, Dialect: JSON()}
	for want, change := range map[string]func(o *Options){
		"Targets":      func(o *Options) { o.Targets = nil },
		"host:port":    func(o *Options) { o.Targets = []string{"https://x"} },
		"Dialect":      func(o *Options) { o.Dialect = Dialect{Name: "latin"} },
		"Dialect.Path": func(o *Options) { o.Dialect.Path = "live" },
		"Regions[0]":   func(o *Options) { o.Regions = []string{"ä"} },
		"Stalled":      func(o *Options) { o.Stalled = 1.5 },
		"Gather":       func(o *Options) { o.Gather = -1 },
	} {
		o := ok
		change(&o)
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error about %s", err, want)
		}
	}
	c := open(t, Options{Targets: ok.Targets, Dialect: Plain(), PerProcess: 3})
	if err := c.Grow(t.Context(), 4, 0); err == nil {
		t.Error("grew beyond what a process may have")
	}
}

// TestTargetsOf: every server has as many connections as the others.
func TestTargetsOf(t *testing.T) {
	for _, x := range []struct{ targets, workers, each int }{{1, 1, 1}, {4, 2, 2}, {2, 4, 1}, {16, 17, 16}, {3, 2, 3}, {3, 0, 3}} {
		o := Options{Targets: strings.Split(strings.Repeat("x,", x.targets-1)+"x", ","), Workers: x.workers}
		for i := range o.Targets {
			o.Targets[i] += fmt.Sprint(i)
		}
		count := map[string]int{}
		for w := range max(1, x.workers) {
			some := o.targetsOf(w + 1)
			if len(some) != x.each {
				t.Errorf("%+v: worker %d has %v", x, w+1, some)
			}
			for _, s := range some {
				count[s]++
			}
		}
		if len(count) != x.targets || slices.Max(slices.Collect(maps.Values(count))) != slices.Min(slices.Collect(maps.Values(count))) {
			t.Errorf("%+v: got %v", x, count)
		}
		if got := o.targetsOf(x.workers + 2); len(got) != x.targets {
			t.Errorf("%+v: one more has %v", x, got)
		}
	}
}
