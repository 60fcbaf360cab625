package broadcast

import (
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/veltrix/cairn"
)

// turnsAtOnce is how many deliveries are made before those who have something
// to say have theirs.
const turnsAtOnce = uringEntries

// sweep implements recipient.
func (l *loop) sweep(views []*view, newest cairn.Instant) {
	l.mu.Lock()
	for _, v := range views {
		if a := l.byView[v]; a != nil && !a.due {
			a.due = true
			l.due = append(l.due, a)
		}
	}
	idle := len(l.due) == 0
	if !idle {
		l.newest = max(l.newest, newest)
		l.busy.Store(true)
	}
	l.mu.Unlock()
	if !idle {
		l.ring()
	}
}

// rested implements recipient.
func (l *loop) rested() bool { return !l.busy.Load() }

// takeUp begins a pass if there is none, and reports whether there is one.
func (l *loop) takeUp() bool {
	if len(l.pass) > 0 {
		return true
	}
	if !l.busy.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pass, l.due = l.due, nil
	l.freshest, l.newest = l.newest, 0
	for _, a := range l.pass {
		a.due = false
	}
	return len(l.pass) > 0
}

// A turn is a member of an audience that is to be told its view's news.
type turn struct {
	handle
	r    *record
	s    *spot
	a    *audience
	sent bool
}

// deliver writes the news of the pass to the members whose turn it is.
func (l *loop) deliver() {
	runtime.LockOSThread() // whose time is taken
	defer runtime.UnlockOSThread()
	before := threadTime()
	l.mu.Lock()
	over := l.nextTurns()
	if l.uring != nil && len(l.turns) > 1 {
		l.sendAll()
	} else {
		for i := range l.turns {
			t := &l.turns[i]
			t.sent = l.write(t.handle, t.r, &t.a.out)
		}
	}
	frames, bytes := l.toldAll()
	for _, a := range over {
		a.next, a.head = 0, nil
		a.out.set(nil)
		clear(a.out.bufs[:cap(a.out.bufs)])
		clear(a.out.iov[:cap(a.out.iov)])
	}
	ended := len(l.pass) == 0
	if ended && len(l.due) == 0 {
		l.busy.Store(false)
	}
	l.mu.Unlock()

	m := l.hub.metrics
	m.deliveryCPU.Add((threadTime() - before).Seconds())
	m.deliveries.Add(float64(frames))
	m.bytes.Add(float64(bytes))
	if ended {
		if l.freshest != 0 {
			m.staleness.Observe(cairn.InstantOf(l.hub.opts.Now()).Sub(l.freshest).Seconds())
		}
		l.hub.rest()
	}
	l.hub.rounds.over()
}

// nextTurns fills l.turns, and returns the audiences whose last turn it was.
func (l *loop) nextTurns() (over []*audience) {
	l.turns, over = l.turns[:0], l.over[:0]
	for looked := 0; len(l.pass) > 0 && len(l.turns) < turnsAtOnce && looked < 8*turnsAtOnce; looked++ {
		a := l.pass[0]
		if a.head == nil { // and so it stays for all members: the next batch is another pass's
			a.head = a.view.head.Load()
			a.out.set(buffers(nil, a.head.frames))
		}
		if a.next >= len(a.members) {
			over, l.pass = append(over, a), l.pass[1:]
			continue
		}
		slot, r, s := l.spotOf(a, a.members[a.next])
		if r.flags&flagTurn != 0 {
			break // of another hunt: whether its socket has room for this one too is not known yet
		}
		a.next++
		if c := (handle{l, slot, r.gen}); l.isDue(c, r, s, a.head) {
			r.flags |= flagTurn
			l.turns = append(l.turns, turn{handle: c, r: r, s: s, a: a})
		}
	}
	l.over = over
	return over
}

// sendAll writes all turns, as one batch but for those that are too long.
func (l *loop) sendAll() {
	for i := range l.turns {
		t := &l.turns[i]
		if len(t.a.out.iov) <= iovMax {
			l.uring.add(i, int(t.r.fd), &t.a.out)
		} else {
			t.sent = l.write(t.handle, t.r, &t.a.out)
		}
	}
	l.uring.submit(func(i, n int, errno syscall.Errno) {
		t := &l.turns[i]
		t.sent = l.wrote(t.handle, t.r, &t.a.out, n, errno)
	})
}

// toldAll notes who was told, and returns how many frames and bytes those were.
func (l *loop) toldAll() (frames, bytes int) {
	var last *audience
	for i := range l.turns {
		t := &l.turns[i]
		t.r.flags &^= flagTurn
		if !t.sent {
			continue
		}
		t.s.seq, t.s.n = t.a.head.seq, uint32(t.a.head.n)
		frames += len(t.a.head.frames)
		bytes += t.a.out.size
		if t.a == last {
			continue // one client stands for all of its audience
		}
		last = t.a
		for _, f := range t.a.head.frames {
			if f.fresh != 0 {
				l.hub.metrics.standings.Observe(cairn.InstantOf(l.hub.opts.Now()).Sub(f.fresh).Seconds())
			}
		}
	}
	clear(l.turns)
	return frames, bytes
}

// buffers appends the bytes of frames.
func buffers(bufs [][]byte, fs []*frame) [][]byte {
	for _, f := range fs {
		bufs = append(bufs, f.ws)
	}
	return bufs
}

// isDue reports whether a batch is just what a connection lacks of a view. Who
// lacks more is brought up to date by catchUps, and who is stalled, once it is
// not. l.mu is held.
func (l *loop) isDue(c handle, r *record, s *spot, head *batch) bool {
	switch {
	case r.flags&(flagStalled|flagBehind|flagBye|flagEnded) != 0:
		return false
	case r.told != head.life.number || s.life != head.life.number || s.resume || s.seq < head.prev:
		l.lagging(c, r)
		return false
	}
	return s.seq < head.seq && len(head.frames) > 0
}

// bring tells one member of an audience what it lacks. l.mu is held.
func (l *loop) bring(c handle, r *record, s *spot, a *audience) {
	head := a.view.head.Load()
	if !l.isDue(c, r, s, head) {
		return
	}
	var o out
	o.set(buffers(nil, head.frames))
	if l.write(c, r, &o) {
		s.seq, s.n = head.seq, uint32(head.n)
		l.hub.metrics.deliveries.Add(float64(len(head.frames)))
		l.hub.metrics.bytes.Add(float64(o.size))
	}
}

// threadTime returns the CPU time of the calling thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	if _, _, errno := syscall.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0
	}
	return time.Duration(ts.Nano())
}
