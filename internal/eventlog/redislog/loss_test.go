package redislog

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

// TestExpired: a TTL that somebody set has run out. The writer from before is
// not taken for the log's.
func TestExpired(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	r.append("a")
	node.Do(t, "PEXPIRE", r.key(), "1")
	for {
		if n, _ := node.Do(t, "EXISTS", r.key()).AsInt64(); n == 0 {
			break
		}
	}
	r.refuse("b", eventlog.ErrMissing)
	if n, _ := node.Do(t, "EXISTS", r.key()).AsInt64(); n != 0 {
		t.Error("R1: an append created the stream")
	}
}

// TestNothingCreates: the stream goes between a look and what is sent behind
// it, such as a seal.
func TestNothingCreates(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	w := r.w.(*writer)
	w.mu.Lock()
	defer w.mu.Unlock()
	node.Do(t, "DEL", r.key())
	e := entry{genesis: w.genesis}
	e.Offset, e.Kind = eventlog.Offset{Epoch: 1, Seq: sealSeq}, kindSeal
	if f := fateOf(w.link.do(r.s.xadd(w.link, w.log, &e, true))[0].Error()); f != missing {
		t.Errorf("R1: an entry without a stream had fate %d, want missing", f)
	}
	if n, _ := node.Do(t, "EXISTS", r.key()).AsInt64(); n != 0 {
		t.Error("R1: an entry created the stream")
	}
}

// TestRearm: what happened between an append and the WATCH behind it.
func TestRearm(t *testing.T) {
	node := redistest.Start(t)
	for name, c := range map[string]struct {
		happens func(r *rig)
		want    bool
	}{
		"nothing":      {func(*rig) {}, true},
		"a fence":      {func(r *rig) { r.open(r.s) }, false},
		"a trim":       {func(r *rig) { node.Do(t, "XTRIM", r.key(), "MAXLEN", "2") }, false},
		"deletion":     {func(r *rig) { node.Do(t, "DEL", r.key()) }, false},
		"a lost entry": {func(r *rig) { node.Do(t, "XDEL", r.key(), "1-2") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, node, node.URL(), quiet)
			r.append("a")
			r.append("b")
			c.happens(r)
			w := r.w.(*writer)
			w.mu.Lock()
			defer w.mu.Unlock()
			b, at := w.link.c.B(), w.anchor.String()
			w.rearm(w.anchor, false, w.link.do(b.Watch().Key(r.key()).Build(),
				b.Xrange().Key(r.key()).Start(at).End(at).Build(), b.Xlen().Key(r.key()).Build()))
			if w.armed != c.want {
				t.Errorf("R4: armed is %v, want %v", w.armed, c.want)
			}
		})
	}
}

// TestMadeByHand: an XADD without NOMKSTREAM has made a stream where there was
// none, and its id is below the writer's.
func TestMadeByHand(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	r.append("a")
	node.Do(t, "DEL", r.key())
	node.Do(t, "XADD", r.key(), "0-1", "some", "field")
	if o, err := r.w.Append(r.ctx, []byte("b"), eventlog.Offset{}); err == nil {
		t.Errorf("R1: %v was acknowledged in a stream that is no log", o)
	}
	if n, _ := node.Do(t, "XLEN", r.key()).AsInt64(); n != 1 {
		t.Errorf("the stream has %d entries, want the one of before", n)
	}
}

// TestEmptied: the fence outlives the entries, but what an emptied stream is,
// nobody can tell any more.
func TestEmptied(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	r.append("a")
	old := r.w
	r.w = r.open(r.s)
	node.Do(t, "XTRIM", r.key(), "MAXLEN", "0")
	for _, w := range []eventlog.Writer{old, r.w} {
		if o, err := w.Append(r.ctx, []byte("b"), eventlog.Offset{}); !errors.Is(err, eventlog.ErrMissing) {
			t.Errorf("Append: %v, %v, want ErrMissing", o, err)
		}
	}
}

// TestFenceMoved: XSETID to the last possible id bricks the stream, and one to
// a low id opens it to all that were fenced out: none of them gets in.
func TestFenceMoved(t *testing.T) {
	node := redistest.Start(t)
	t.Run("up", func(t *testing.T) {
		r := newRig(t, node, node.URL(), Options{MarkAfter: time.Hour, ResolveMax: 200 * time.Millisecond})
		r.append("a")
		node.Do(t, "XSETID", r.key(), "18446744073709551615-18446744073709551615")
		if o, err := r.w.Append(r.ctx, []byte("b"), eventlog.Offset{}); err == nil {
			t.Errorf("%v was acknowledged", o)
		}
		r.want("a")
	})
	t.Run("down", func(t *testing.T) {
		r := newRig(t, node, node.URL(), quiet)
		r.append("a")
		old := r.w
		r.w = r.open(r.s)
		r.append("b")
		for _, id := range []string{"2-1", "2-0"} { // the newest records, by hand
			node.Do(t, "XDEL", r.key(), id)
		}
		node.Do(t, "XSETID", r.key(), "1-18446744073709551615")
		if o, err := old.Append(r.ctx, []byte("late"), eventlog.Offset{}); !errors.Is(err, eventlog.ErrFenced) {
			t.Errorf("a writer that was fenced out: %v, %v, want ErrFenced", o, err)
		}
		r.append("c") // and the owner puts back what is gone
		r.want("a", "b", "c")
	})
}

// TestEmptyRestart: a server without a file comes back with nothing. Nobody
// begins the log anew.
func TestEmptyRestart(t *testing.T) {
	node := redistest.Start(t, "--appendonly", "no")
	r := newRig(t, node, node.URL(), Options{MarkAfter: time.Hour, ResolveMax: 20 * time.Second})
	f := r.follow(r.append("a"))
	node.Kill()
	node.Restart(t)
	r.refuse("b", eventlog.ErrMissing)
	r.fails(f, eventlog.ErrDiverged)
	if n, _ := node.Do(t, "DBSIZE").AsInt64(); n != 0 {
		t.Errorf("%d keys, want none", n)
	}
}

// startReplicas starts replicas of a node, and waits until they are in step.
func startReplicas(t *testing.T, node *redistest.Server, n int) []*redistest.Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(node.Addr)
	var replicas []*redistest.Server
	for range n {
		n := redistest.Start(t)
		n.Do(t, "REPLICAOF", host, port)
		replicas = append(replicas, n)
	}
	for until := time.Now().Add(time.Minute); ; {
		info, _ := node.Do(t, "INFO", "replication").ToString()
		if strings.Count(info, "state=online") == n {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("no %d replicas: %s", n, info)
		}
		<-time.After(10 * time.Millisecond)
	}
	return replicas
}

// TestMarkWaitsForReplicas: in ack mode primary the durable mark, which the
// ledger pays up to, is no further than what the replicas have.
func TestMarkWaitsForReplicas(t *testing.T) {
	node := redistest.Start(t, "--repl-diskless-sync-delay", "0")
	replica := startReplicas(t, node, 1)[0]
	r := newRig(t, node, node.URL(), Options{Ack: AckPrimary, MarkAfter: 5 * time.Millisecond})
	durable := func() eventlog.Offset {
		st, err := r.s.Status(r.ctx, "s00")
		if err != nil {
			t.Fatal(err)
		}
		return st.Durable
	}
	a := r.append("a")
	for durable().Less(a) {
		<-time.After(time.Millisecond) // a poll
	}
	replica.Pause()
	b := r.append("b")
	for range 20 {
		r.append("c")
		<-time.After(10 * time.Millisecond)
	}
	if d := durable(); !d.Less(b) {
		t.Errorf("durable up to %v, want less than %v, which the replica lacks", d, b)
	}
	replica.Continue()
	for durable().Less(b) {
		if r.ctx.Err() != nil {
			t.Fatal("the mark does not go on")
		}
		<-time.After(time.Millisecond) // a poll
	}
}

// TestShortWait: one of two replicas lacks the record, and it could be the one
// that is promoted.
func TestShortWait(t *testing.T) {
	node := redistest.Start(t, "--min-replicas-to-write", "1", "--repl-diskless-sync-delay", "0")
	replicas := startReplicas(t, node, 2)
	r := newRig(t, node, node.URL(), Options{MarkAfter: time.Hour, ReplyMax: 2 * time.Second, ResolveMax: 4 * time.Second})
	if r.s.Ack() != AckReplicas {
		t.Fatalf("ack mode %q, want replicas", r.s.Ack())
	}
	r.append("a")
	replicas[0].Pause()
	r.refuse("b", eventlog.ErrUnknown)
	if _, err := r.s.Open(r.ctx, "s00"); err == nil {
		t.Error("Open: no error, though a replica lacks the fence")
	}
	go func() {
		<-time.After(300 * time.Millisecond)
		replicas[0].Continue()
	}()
	r.w = r.open(r.s) // waits until all have the fence, so all before it too
	r.append("c")
	r.want("a", "b", "c")
}

// TestReadOnly: the primary was made a replica, and comes back.
func TestReadOnly(t *testing.T) {
	node, other := redistest.Start(t), redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	r.append("a")
	host, port, _ := net.SplitHostPort(other.Addr)
	node.Do(t, "REPLICAOF", host, port) // it may lose all that it has
	go func() {
		<-time.After(100 * time.Millisecond)
		node.Do(t, "REPLICAOF", "NO", "ONE")
	}()
	if o, err := r.w.Append(r.ctx, []byte("b"), eventlog.Offset{}); err == nil {
		r.want("a", "b")
	} else if !errors.Is(err, eventlog.ErrMissing) {
		t.Errorf("Append: %v, %v, want it done, or ErrMissing", o, err)
	}
}
