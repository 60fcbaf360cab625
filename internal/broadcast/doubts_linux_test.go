package broadcast

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests here each settle one doubt about the loops: what must hold however
// readiness, sweeps and goodbyes interleave.

// newLoopIn returns a loop that is not run: the test does what its goroutine
// would do.
func newLoopIn(t *testing.T, h *Hub) *loop {
	t.Helper()
	l, err := newLoop(h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// TestBellRingsForEver: a sweep wakes its loop however many came before it.
func TestBellRingsForEver(t *testing.T) {
	l := newLoopIn(t, newBenchHub(t, 1, 1).Hub)
	for i := range 100_000 {
		l.ring()
		if n := epollWait(l.epfd, l.events[:]); n != 1 || l.events[0].Fd != bellSlot {
			t.Fatalf("ring %d: got %d events, want the bell's", i, n)
		}
	}
}

// adoptPair makes one end of a pair of sockets a connection of a loop, as its
// goroutine would find it, and returns the other end, which does not block.
func adoptPair(t *testing.T, l *loop, ended func(error)) (handle, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.hub.admit(); err != nil {
		t.Fatal(err)
	}
	c, err := l.adopt(fds[0], nil, JSON, &testEdge{}, ended)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the hub of no loop that runs has nobody else to close it
		l.lost(c, errLost)
		unix.Close(fds[1])
	})
	return c, fds[1]
}

// drainFD returns what stands ready in a socket that does not block.
func drainFD(t *testing.T, fd int) []byte {
	t.Helper()
	var all []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case n > 0:
			all = append(all, buf[:n]...)
		case err == nil || errors.Is(err, unix.EAGAIN):
			return all
		default:
			t.Fatal(err)
		}
	}
}

// turn has a loop that does not run take up what is ready.
func (l *loop) turn() {
	l.poll(0)
	for i := range l.events[:max(0, l.n)] {
		l.handle(&l.events[i])
	}
}

// greeted has a connection of a loop that does not run say hello.
func (c handle) greeted() {
	c.loop.hear(c, maskedFrame(opText, true, []byte(`{"type":"hello"}`)))
}

// watched has it watch something.
func (c handle) watched(text string) {
	c.loop.hear(c, maskedFrame(opText, true, []byte(text)))
}

// TestManyBuffers: what takes more than one system call is not left lying in
// front of a socket that has room, and about which readiness says nothing.
func TestManyBuffers(t *testing.T) {
	l := newLoopIn(t, newBenchHub(t, 1, 1).Hub)
	c, fd := adoptPair(t, l, nil)
	l.turn()
	bufs := make([][]byte, 3*iovMax+7)
	for i := range bufs {
		bufs[i] = []byte{byte(i)}
	}
	c.with(func(l *loop, r *record) {
		var o out
		o.set(bufs)
		if !l.write(c, r, &o) || r.flags&flagStalled != 0 {
			t.Errorf("a write of %d buffers stalled on an empty socket", len(bufs))
		}
	})
	if got, want := drainFD(t, fd), bytes.Join(bufs, nil); !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, want the %d that were written", len(got), len(want))
	}
}

// TestManyBuffersStalled is that for what a socket took none of at first.
func TestManyBuffersStalled(t *testing.T) {
	l := newLoopIn(t, newBenchHub(t, 1, 1).Hub)
	c, fd := adoptPair(t, l, nil)
	l.turn()
	fill := bytes.Repeat([]byte{1}, 1<<20)
	bufs := make([][]byte, 3*iovMax+7)
	for i := range bufs {
		bufs[i] = []byte{byte(i)}
	}
	c.with(func(l *loop, r *record) {
		l.send(c, r, fill)
		if r.flags&flagStalled == 0 {
			t.Fatal("a socket took 1 MB that nobody read")
		}
		st := l.stalls[c.slot]
		st.rest = append(st.rest, bufs...)
	})
	var got []byte
	for range 1000 {
		got = append(got, drainFD(t, fd)...)
		l.turn()
	}
	got = append(got, drainFD(t, fd)...)
	if want := append(fill, bytes.Join(bufs, nil)...); !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, want the %d that were written", len(got), len(want))
	}
	c.with(func(l *loop, r *record) {
		if r.flags&flagStalled != 0 || len(l.stalls) > 0 {
			t.Error("it is still stalled")
		}
	})
}

// news gives a view a batch of one frame, by hand.
func news(v *view, text string) {
	head := v.head.Load()
	f := newFrame(v.codec, kindDelta, head.seq+1, append(room(len(text)), text...))
	v.head.Store(&batch{life: head.life, n: head.n + 1, prev: head.seq, seq: head.seq + 1, frames: []*frame{f}})
}

// TestNewsOfTwoHunts: one pass has news for a client of two hunts, and its
// socket takes no more than a part of the first.
func TestNewsOfTwoHunts(t *testing.T) {
	for _, alone := range []bool{true, false} {
		x := newBenchHub(t, 1, 4)
		x.life.state.hunts.Apply(changeCreate("bergen"))
		x.opts.oneByOne = alone
		l := newLoopIn(t, x.Hub)
		c, fd := adoptPair(t, l, nil)
		l.turn()
		c.greeted()
		c.watched(watchText(false, "u4"))
		c.watched(strings.Replace(watchText(false, "u4"), string(huntID), "bergen", 1))
		l.catchUp(c)
		if got := string(drainFD(t, fd)); strings.Count(got, `"snapshot"`) != 2 {
			t.Fatalf("got %s; want two snapshots", got)
		}
		var want []string
		var views []*view
		for _, v := range x.views {
			want = append(want, strings.Repeat(string(v.hunt[:1]), 1<<20))
			news(v, want[len(want)-1])
			views = append(views, v)
		}
		l.sweep(views, 0)
		for l.takeUp() {
			l.deliver()
		}
		var got []byte
		for range 1000 {
			got = append(got, drainFD(t, fd)...)
			l.turn()
		}
		for r := bytes.NewReader(got); r.Len() > 0; {
			h, err := readHeard(r)
			if err != nil {
				t.Fatalf("oneByOne %t: %d bytes: %v", alone, len(got), err)
			}
			if len(want) == 0 || string(h.payload) != want[0] {
				t.Fatalf("oneByOne %t: got a frame of %d bytes that is none of what was sent", alone, len(h.payload))
			}
			want = want[1:]
		}
		if len(want) > 0 {
			t.Errorf("oneByOne %t: %d frames did not come", alone, len(want))
		}
	}
}

// TestWatchChangesDuringCatchUp: a client that changes its mind while what it
// wanted first is put together gets what it wants now, though the number of the
// audience, which nobody else is in, goes from the one view to the other.
func TestWatchChangesDuringCatchUp(t *testing.T) {
	h := newBenchHub(t, 1, 64).Hub
	l := newLoopIn(t, h)
	c, fd := adoptPair(t, l, nil)
	l.turn()
	c.greeted()
	c.watched(watchText(false, "u4"))
	for range cap(h.encoding) {
		h.encoding <- struct{}{} // nobody makes a snapshot now
	}
	done := make(chan struct{})
	go func() { l.catchUp(c); close(done) }()
	for looked := false; !looked; time.Sleep(time.Millisecond) { // it has looked at what is lacking, or will
		c.with(func(*loop, *record) { looked = true })
	}
	time.Sleep(20 * time.Millisecond) // let it come to the snapshot; if it has not, the test shows less
	c.watched(watchText(false, "9q"))
	for range cap(h.encoding) {
		<-h.encoding
	}
	<-done
	for len(l.behind) > 0 {
		l.behind = l.behind[1:]
		l.catchUp(c)
	}
	got := string(drainFD(t, fd))
	if !strings.Contains(got, `"regions":["9q"]`) {
		t.Errorf("got %s; want a snapshot of what is watched in the end", got)
	}
	if strings.Contains(got, `"regions":["u4"]`) {
		t.Errorf("got %s; want no snapshot of what is not watched any more", got)
	}
}

// TestPingAfterWeeks: a client that talked for weeks, so that no ping was ever
// due, is sent one before it is given up.
func TestPingAfterWeeks(t *testing.T) {
	x := newBenchHub(t, 1, 1)
	x.born = x.born.Add(-40 * 24 * time.Hour)
	l := newLoopIn(t, x.Hub)
	c, fd := adoptPair(t, l, nil)
	l.turn()
	c.greeted()
	drainFD(t, fd)
	c.with(func(l *loop, r *record) {
		r.mark -= uint32((39 * 24 * time.Hour).Milliseconds())
		r.heard -= uint32((40 * time.Second).Milliseconds())
	})
	l.check()
	if got := drainFD(t, fd); !bytes.Equal(got, pingBytes) {
		t.Errorf("got % x, want a ping", got)
	}
}
