package redislog

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

// A listener follows s00 in a store with a bell, and counts what rings.
type listener struct {
	*rig
	s *Store
	f eventlog.Follower
	n int // records appended
}

func newListener(t *testing.T, opts Options) *listener {
	t.Helper()
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	opts.Bell, opts.Prefix, opts.PollEvery = true, r.s.opts.Prefix, 10*time.Millisecond
	l := &listener{rig: r, s: mustOpen(t, node.URL(), opts)}
	t.Cleanup(func() { l.s.Close() })
	f, err := l.s.Follow(r.ctx, "s00", r.w.Fence())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	l.f = f
	return l
}

// await waits until what it asks for is so.
func (l *listener) await(what string, so func() bool) {
	l.t.Helper()
	for !so() {
		select {
		case <-l.ctx.Done():
			l.t.Fatalf("%s: not within the test's time", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// feed returns what polls know of the log, if none is under way.
func (l *listener) feed() (armed bool, quiet int) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	f := l.s.feeds["s00"]
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy || f.rung {
		return false, 0
	}
	return f.armed, f.quiet
}

// armed reports whether the bell of the log waits for a write.
func (l *listener) armed() bool {
	armed, _ := l.feed()
	return armed
}

// quiet returns how many polls have found nothing.
func (l *listener) quiet() int {
	_, quiet := l.feed()
	return quiet
}

func (l *listener) rings() float64 { return metricValue(l.t, l.s.metrics.byBell) }

// hear appends a record to the quiet log and reads it.
func (l *listener) hear() {
	l.t.Helper()
	l.n++
	want := fmt.Sprint(l.n)
	l.append(want)
	recs, _, err := l.f.Next(l.ctx)
	if err != nil || len(recs) != 1 || string(recs[0].Body) != want {
		l.t.Fatalf("Next: %d records, %v; want %q", len(recs), err, want)
	}
}

// TestBell: a quiet log rings when it is written, each time anew.
func TestBell(t *testing.T) {
	l := newListener(t, Options{})
	for range 3 {
		l.await("armed", l.armed)
		before := l.rings()
		l.hear()
		l.await("a ring", func() bool { return l.rings() > before })
	}
	if got := l.rings(); got > 6 {
		t.Errorf("three records rang %v times; want one each, or one more", got)
	}
}

// TestBellOfAConnectionThatEnded: what was armed on a connection that is gone
// is looked at, and armed again on the next.
func TestBellOfAConnectionThatEnded(t *testing.T) {
	l := newListener(t, Options{})
	l.await("armed", l.armed)
	before := l.rings()
	if err := l.node.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Error(); err != nil {
		t.Fatal(err)
	}
	l.await("a ring, for the connection has ended", func() bool { return l.rings() > before })
	l.await("armed", l.armed)
	before = l.rings()
	l.hear()
	l.await("a ring", func() bool { return l.rings() > before })
}

// TestNoBell: a user who may not arm bells still follows, by the clock, and is
// told once what to allow.
func TestNoBell(t *testing.T) {
	var log bytes.Buffer
	l := newListener(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	l.node.Do(t, "ACL", "SETUSER", "default", "-client|tracking")
	l.await("a poll that was refused", func() bool { return l.quiet() > coldAfter })
	for range 3 {
		l.hear()
		l.await("quiet", func() bool { return l.quiet() > 2 })
	}
	if got := l.rings(); got > 1 { // one was armed before
		t.Errorf("%v rings; want none", got)
	}
	l.s.Close()
	if n := strings.Count(log.String(), "CLIENT TRACKING"); n != 1 {
		t.Errorf("told %d times of CLIENT TRACKING; want once:\n%s", n, log.String())
	}
}

// TestDue: how often a log is asked for, by how quiet it is.
func TestDue(t *testing.T) {
	s := &Store{opts: Options{PollEvery: 20 * time.Millisecond, Bell: true}.withDefaults(), metrics: newMetrics(nil)}
	s.topo.Store(&topology{})
	for _, c := range []struct {
		name  string
		quiet int
		armed bool
		every int // polls
	}{
		{"busy", 1, false, 1},
		{"quiet", coldAfter, false, coldEvery},
		{"armed", 2, true, 12}, // at 240 ms, for it is compared every 200
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &feed{s: s, log: "s00", quiet: c.quiet, armed: c.armed}
			s.feeds = map[eventlog.Name]*feed{f.log: f}
			asked := 0
			for n := range 120 {
				feeds, every := s.idleFeeds(n, n+1)
				if every != c.every {
					t.Fatalf("next at a multiple of %d polls; want %d", every, c.every)
				}
				if len(feeds) > 0 {
					asked++
					f.busy = false
				}
			}
			if want := 120 / c.every; asked != want {
				t.Errorf("asked %d times in 120 polls; want %d", asked, want)
			}
		})
	}
}
