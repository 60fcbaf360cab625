package redislog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

func TestDeletedStream(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	f := r.follow(r.append("a"))
	node.Do(t, "DEL", r.key())
	r.refuse("b", eventlog.ErrMissing)
	r.refuse("c", eventlog.ErrMissing) // and stays so
	if n, _ := node.Do(t, "EXISTS", r.key()).AsInt64(); n != 0 {
		t.Error("R1: an append created the stream")
	}
	if _, err := r.s.Open(r.ctx, "s00"); !errors.Is(err, eventlog.ErrMissing) {
		t.Errorf("Open: %v, want ErrMissing", err)
	}
	if n, _ := node.Do(t, "EXISTS", r.key()).AsInt64(); n != 0 {
		t.Error("R1: opening a writer created the stream")
	}
	if err := r.s.Provision(r.ctx, eventlog.Spec{Name: "s00"}); !errors.Is(err, eventlog.ErrMissing) {
		t.Errorf("Provision of a log that was there: %v, want ErrMissing", err)
	}
	r.fails(f, eventlog.ErrDiverged)
}

// TestRecreatedStream: an append lands in a stream that is another, for its id
// is above all there; it must not be acknowledged.
func TestRecreatedStream(t *testing.T) {
	node := redistest.Start(t)
	for others := range 6 { // records in the new stream: as many as there were, once
		t.Run(fmt.Sprint(others), func(t *testing.T) {
			r := newRig(t, node, node.URL(), quiet)
			for range 4 {
				r.w = r.open(r.s)
			}
			f := r.follow(r.append("a"))
			node.Do(t, "DEL", r.key())
			s := r.second()
			if err := s.Provision(r.ctx, eventlog.Spec{Name: "s00"}); err != nil {
				t.Fatal(err)
			}
			if others > 0 {
				w := r.open(s)
				for range others - 1 {
					if _, err := w.Append(r.ctx, []byte("other"), eventlog.Offset{}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if _, err := r.w.Append(r.ctx, []byte("b"), eventlog.Offset{}); !errors.Is(err, eventlog.ErrMissing) {
				t.Errorf("Append: %v, want ErrMissing", err)
			}
			if _, err := r.s.Open(r.ctx, "s00"); !errors.Is(err, eventlog.ErrMissing) {
				t.Errorf("Open: %v, want ErrMissing", err)
			}
			if _, err := r.s.Status(r.ctx, "s00"); !errors.Is(err, eventlog.ErrMissing) {
				t.Errorf("Status: %v, want ErrMissing", err)
			}
			r.fails(f, eventlog.ErrDiverged)
		})
	}
}

// TestRolledBack: a failover may promote a replica that lacks the newest
// records. Their writer puts them back, each with the id and bytes that it had
// (R5), or appends nothing more; and who has read what is gone hears of it,
// unless it is there again.
func TestRolledBack(t *testing.T) {
	node := redistest.Start(t)
	for _, c := range []struct {
		name  string
		lost  int // records
		stale int // records of the writer before, which has its fence lost
	}{
		{"one record", 1, 0},
		{"three records", 3, 0},
		{"the fence and all behind it", 4, 0},
		{"an older writer wrote one", 4, 1},
		{"as many, and an older writer wrote as many", 4, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, node, node.URL(), quiet)
			r.append("old")
			old := r.w.(*writer)
			var dumps []string
			dump := func() {
				d, err := node.Do(t, "DUMP", r.key()).ToString()
				if err != nil {
					t.Fatal(err)
				}
				dumps = append(dumps, d)
			}
			dump()
			r.w = r.open(r.s)
			for _, b := range []string{"a", "b", "c"} {
				dump()
				r.append(b)
			}
			f := r.follow(r.w.(*writer).last.Offset)
			node.Do(t, "DEL", r.key())
			node.Do(t, "RESTORE", r.key(), "0", dumps[len(dumps)-c.lost])
			for i := range c.stale {
				if _, err := old.Append(r.ctx, []byte(fmt.Sprint("stale", i)), eventlog.Offset{}); err != nil {
					t.Fatalf("Append by the writer before: %v", err)
				}
			}
			if c.stale > 0 {
				r.refuse("d", eventlog.ErrFenced)
				r.fails(f, eventlog.ErrDiverged)
				if got := r.bodies(); len(got) != 1+c.stale {
					t.Errorf("R5: the log has %q, want old and what the older writer wrote", got)
				}
				return
			}
			d := r.append("d")
			r.want("old", "a", "b", "c", "d")
			for at := (eventlog.Offset{}); at != d; {
				recs, _, err := f.Next(r.ctx)
				if errors.Is(err, eventlog.ErrDiverged) {
					return // it looked in between
				}
				if err != nil {
					t.Fatal(err)
				}
				at = recs[len(recs)-1].Offset
			}
		})
	}
}

// TestRolledBackAndOpened: the fence is lost too, and another writer has opened
// since: it has the same epoch, and records with the same ids.
func TestRolledBackAndOpened(t *testing.T) {
	node := redistest.Start(t)
	for _, others := range []int{0, 2, 3, 4, 6} { // mine are 2-1 to 2-3, and 2-4 is next
		t.Run(fmt.Sprint(others), func(t *testing.T) {
			r := newRig(t, node, node.URL(), quiet)
			r.append("old")
			d, _ := node.Do(t, "DUMP", r.key()).ToString()
			r.w = r.open(r.s)
			for _, b := range []string{"a", "b", "c"} {
				r.append(b)
			}
			f := r.follow(r.w.(*writer).last.Offset)
			node.Do(t, "RESTORE", r.key(), "0", d, "REPLACE")
			other := r.open(r.second())
			if other.Fence() != r.w.Fence() {
				t.Fatalf("the other's fence is %v, want %v", other.Fence(), r.w.Fence())
			}
			want := []string{"old"}
			for i := range others {
				body := fmt.Sprint("other", i)
				if _, err := other.Append(r.ctx, []byte(body), eventlog.Offset{}); err != nil {
					t.Fatal(err)
				}
				want = append(want, body)
			}
			r.refuse("d", eventlog.ErrFenced)
			if _, err := other.Append(r.ctx, []byte("more"), eventlog.Offset{}); err != nil {
				t.Errorf("R5: the other writer is shut out: %v", err)
			}
			r.want(append(want, "more")...)
			r.fails(f, eventlog.ErrDiverged)
		})
	}
}

// TestRolledBackFar: more is lost than the writer keeps in memory.
func TestRolledBackFar(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	r.append("a")
	d, _ := node.Do(t, "DUMP", r.key()).ToString()
	for range 2 * tailBytesMax / eventlog.BodyBytesMax {
		if _, err := r.w.Append(r.ctx, make([]byte, eventlog.BodyBytesMax), eventlog.Offset{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.w.(*writer).tail.bytes; n > tailBytesMax {
		t.Errorf("the writer keeps %d bytes, want at most %d", n, tailBytesMax)
	}
	node.Do(t, "RESTORE", r.key(), "0", d, "REPLACE")
	r.refuse("b", eventlog.ErrUnknown)
	r.want("a")
}

// TestRolledBackQuiet: nothing is appended, so only a look at the end of the
// log shows it.
func TestRolledBackQuiet(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	r.append("a")
	d, _ := node.Do(t, "DUMP", r.key()).ToString()
	f := r.follow(r.append("b"))
	node.Do(t, "RESTORE", r.key(), "0", d, "REPLACE")
	r.fails(f, eventlog.ErrDiverged)
}

// TestOverwritten: the record read last is another now, at the same offset.
func TestOverwritten(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	r.append("a")
	d, _ := node.Do(t, "DUMP", r.key()).ToString()
	last := r.append("b")
	f := r.follow(last)
	node.Do(t, "RESTORE", r.key(), "0", d, "REPLACE")
	e := entry{genesis: r.w.(*writer).genesis}
	e.Offset, e.Kind, e.Prev = last, eventlog.Data, eventlog.Offset{Epoch: 1, Seq: 1}
	node.Do(t, "XADD", r.key(), last.String(), fieldHeader, string(e.appendHeader(nil)), fieldBody, "other")
	r.fails(f, eventlog.ErrDiverged)
}

func TestDamagedRecord(t *testing.T) {
	node := redistest.Start(t)
	for name, add := range map[string]func(h string) []string{
		"body":    func(h string) []string { return []string{fieldHeader, h, fieldBody, "x"} },
		"header":  func(h string) []string { return []string{fieldHeader, h[:20], fieldBody, ""} },
		"version": func(h string) []string { return []string{fieldHeader, "\x07" + h[1:], fieldBody, ""} },
		"field":   func(h string) []string { return []string{"x", h, fieldBody, ""} },
		"fields":  func(h string) []string { return []string{fieldHeader, h} },
		"longer":  func(h string) []string { return []string{fieldHeader, h + "x", fieldBody, ""} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, node, node.URL(), quiet)
			f := r.follow(r.append("a"))
			w := r.w.(*writer)
			e := entry{genesis: w.genesis}
			e.Offset, e.Kind, e.Nonce, e.Prev = eventlog.Offset{Epoch: 1, Seq: 2}, eventlog.Data, w.nonce, w.last.Offset
			e.Chain = eventlog.NextChain(w.last.Chain, &e.Record)
			node.Do(t, append([]string{"XADD", r.key(), e.Offset.String()}, add(string(e.appendHeader(nil)))...)...)
			r.fails(f, eventlog.ErrDamaged)
		})
	}
}

// TestLostReply: the connection ends with a command, which was done or not.
// Either way the record is in the log once, and acknowledged (R6).
func TestLostReply(t *testing.T) {
	node := redistest.Start(t)
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprintf("before=%v", before), func(t *testing.T) {
			p := newProxy(t, node.Addr)
			r := newRig(t, node, p.url(), quiet)
			var want []string
			for i := range 5 {
				body := fmt.Sprint("r", i)
				p.cut("XADD", before, false)
				r.append(body)
				want = append(want, body)
			}
			r.want(want...)
			p.cut("XADD", before, false) // of a seal
			r.w = r.open(r.s)
			p.cut("-0\r\n", before, false) // of a fence
			r.w = r.open(r.s)
			r.append("last")
			if p.count() != 7 {
				t.Errorf("%d connections were cut, want 7", p.count())
			}
			r.want(append(want, "last")...)
		})
	}
}

// TestLostReplyThenFenced: what came of it, the log tells: absent below a
// higher id is final, and what landed before the fence is acknowledged.
func TestLostReplyThenFenced(t *testing.T) {
	node := redistest.Start(t)
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprintf("before=%v", before), func(t *testing.T) {
			p := newProxy(t, node.Addr)
			r := newRig(t, node, p.url(), quiet)
			p.cut("XADD", before, true)
			got := make(chan error, 1)
			go func() {
				_, err := r.w.Append(r.ctx, []byte("a"), eventlog.Offset{})
				got <- err
			}()
			for p.count() == 0 || !p.isDown() {
				time.Sleep(time.Millisecond) // a poll
			}
			r.open(r.second())
			p.setDown(false)
			err := <-got
			if before {
				if !errors.Is(err, eventlog.ErrFenced) {
					t.Errorf("Append: %v, want ErrFenced", err)
				}
				r.want()
			} else {
				if err != nil {
					t.Errorf("Append: %v, want it acknowledged", err)
				}
				r.want("a")
				r.refuse("b", eventlog.ErrFenced)
			}
		})
	}
}

// TestUnresolved: nobody answers, so nobody knows; and the writer is through.
func TestUnresolved(t *testing.T) {
	node := redistest.Start(t)
	for i := range 4 {
		before, looks := i%2 == 0, i > 1 // whether the writer had to look first
		t.Run(fmt.Sprintf("before=%v looks=%v", before, looks), func(t *testing.T) {
			p := newProxy(t, node.Addr)
			r := newRig(t, node, p.url(), Options{MarkAfter: time.Hour, ResolveMax: 300 * time.Millisecond})
			r.append("a")
			if looks {
				w := r.w.(*writer)
				w.mu.Lock()
				w.armed = false
				w.mu.Unlock()
			}
			p.cut("XADD", before, true)
			r.refuse("b", eventlog.ErrUnknown)
			p.setDown(false)
			r.refuse("c", eventlog.ErrUnknown)
			r.w = r.open(r.second())
			r.append("d")
			if before {
				r.want("a", "d")
			} else {
				r.want("a", "b", "d")
			}
		})
	}
}

func TestOutOfMemory(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	r.append("a")
	node.Do(t, "CONFIG", "SET", "maxmemory", "1")
	for range 3 {
		r.refuse("b", eventlog.ErrPushback)
	}
	node.Do(t, "CONFIG", "SET", "maxmemory", "0")
	r.append("c") // the same writer, with the id that was free
	r.want("a", "c")
}

// TestKilled: redis-server dies by kill -9 while it is written to, and comes
// back on the same data. With appendfsync always nothing acknowledged is lost.
func TestKilled(t *testing.T) {
	node := redistest.Start(t, "--appendfsync", "always")
	r := newRig(t, node, node.URL(), Options{Ack: AckFsync, MarkAfter: time.Millisecond, ResolveMax: 20 * time.Second})
	acked := make(map[string]bool)
	for round := range 4 {
		killed := make(chan struct{})
		for i := range 60 {
			if i == 20+round {
				go func() {
					node.Kill()
					node.Restart(t)
					close(killed)
				}()
			}
			body := fmt.Sprintf("%d/%d", round, i)
			_, err := r.w.Append(r.ctx, []byte(body), eventlog.Offset{})
			switch {
			case err == nil:
				acked[body] = true
			case errors.Is(err, eventlog.ErrPushback):
			case errors.Is(err, eventlog.ErrUnknown), errors.Is(err, eventlog.ErrFenced):
				r.w = r.open(r.s)
			default:
				t.Fatalf("Append: %v", err)
			}
		}
		<-killed
	}
	if len(acked) < 100 {
		t.Errorf("%d records were acknowledged: the test shows nothing", len(acked))
	}
	seen := make(map[string]bool)
	for _, b := range r.bodies() {
		if seen[b] {
			t.Errorf("record %s is there twice", b)
		}
		seen[b] = true
	}
	for b := range acked {
		if !seen[b] {
			t.Errorf("record %s was acknowledged, and is lost", b)
		}
	}
}

// TestPaused: a server that is stopped for longer than the bound and then
// goes on does what it had been sent; nobody hears of it.
func TestPaused(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), Options{MarkAfter: time.Hour, ReplyMax: 100 * time.Millisecond, ResolveMax: 300 * time.Millisecond})
	r.append("a")
	node.Pause()
	r.refuse("b", eventlog.ErrUnknown)
	node.Continue()
	r.refuse("c", eventlog.ErrUnknown)
	s := mustOpen(t, node.URL(), Options{Prefix: r.s.opts.Prefix})
	defer s.Close()
	r.w = r.open(s)
	r.append("d")
	got := r.bodies()
	if s := strings.Join(got, ""); s != "ad" && s != "abd" {
		t.Errorf("the log has %q, want a, b perhaps, and d", got)
	}
}

// TestPausedBriefly: one that goes on before the writer gives up.
func TestPausedBriefly(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), Options{MarkAfter: time.Hour, ReplyMax: 100 * time.Millisecond, ResolveMax: 20 * time.Second})
	r.append("a")
	node.Pause()
	go func() {
		<-time.After(400 * time.Millisecond)
		node.Continue()
	}()
	r.append("b")
	r.want("a", "b")
}

func TestTrimmedPastAFollower(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	f, err := r.s.Follow(r.ctx, "s00", r.append("a"))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		r.append("b")
	}
	node.Do(t, "XTRIM", r.key(), "MAXLEN", "2") // at once, and not by a store
	for range 10 {
		r.append("c") // goes on though its anchor, the fence, is gone
	}
	node.Do(t, "XTRIM", r.key(), "MAXLEN", "1")
	behind, err := r.s.Follow(r.ctx, "s00", r.w.(*writer).last.Offset)
	if err != nil {
		t.Fatal(err)
	}
	r.append("d")
	if recs, _, err := behind.Next(r.ctx); err != nil || string(recs[0].Body) != "d" {
		t.Errorf("Next: %v, %v, want d", recs, err)
	}
	for err == nil { // it may have read all in time, or else hears of it
		var recs []eventlog.Record
		if recs, _, err = f.Next(r.ctx); err == nil && recs[len(recs)-1].Offset == r.w.(*writer).last.Offset {
			break
		}
	}
	if err != nil && !errors.Is(err, eventlog.ErrTrimmed) {
		t.Errorf("Next: %v, want ErrTrimmed", err)
	}
	old, err := r.s.Follow(r.ctx, "s00", eventlog.GenesisOffset)
	if !errors.Is(err, eventlog.ErrTrimmed) {
		t.Errorf("Follow: %v, %v, want ErrTrimmed", old, err)
	}
	if st, err := r.second().Status(r.ctx, "s00"); err != nil || st.Genesis != r.w.(*writer).genesis {
		t.Errorf("a trimmed log has genesis %x, %v, want %x", st.Genesis, err, r.w.(*writer).genesis)
	}
}
