package broadcast

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/veltrix/cairn"
)

// turnsAtOnce is how many deliveries are made before those who have something
// to say have their turn.
const turnsAtOnce = 32

// An out is what one write sends, in the form that the kernel takes.
type out struct {
	bufs [][]byte
	iov  []unix.Iovec
	msg  unix.Msghdr
	size int // bytes
}

func (o *out) set(bufs [][]byte) {
	o.bufs, o.iov, o.size = append(o.bufs[:0], bufs...), o.iov[:0], 0
	for _, b := range bufs {
		o.size += len(b)
		if len(o.iov) < iovMax && len(b) > 0 {
			v := unix.Iovec{Base: unsafe.SliceData(b)}
			v.SetLen(len(b))
			o.iov = append(o.iov, v)
		}
	}
	o.msg = unix.Msghdr{Iov: unsafe.SliceData(o.iov)}
	o.msg.SetIovlen(len(o.iov))
}

// sendFlags: whatever the socket does not take now is left; one whose client is
// gone is an error, and no signal.
const sendFlags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL

// write writes what the socket takes now. Such a call can't block, so the
// scheduler need not know of it; and send is a tenth cheaper than write, which
// goes by way of files.
func (o *out) write(fd int) (int, syscall.Errno) {
	for {
		var n uintptr
		var errno syscall.Errno
		if len(o.iov) == 1 {
			n, _, errno = syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(o.iov[0].Base)), uintptr(o.iov[0].Len), sendFlags, 0, 0)
		} else {
			n, _, errno = syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&o.msg)), sendFlags)
		}
		runtime.KeepAlive(o)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// rest returns what is left of bufs behind their first n bytes.
func rest(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	left := append([][]byte(nil), bufs...)
	if n > 0 {
		left[0] = left[0][n:]
	}
	return left
}

// A stall is what is kept of a connection whose socket takes nothing now.
type stall struct {
	rest  [][]byte // of what is in flight: to be finished before anything else
	own   [][]byte // whole frames for this client alone, at most ownMax
	moved uint32   // when it last took a byte (Hub.clock)
	told  bool     // it was told that it is too slow
}

// ownMax bounds the frames that wait for one client alone: answers to its
// claims and pings. A client that asks on without reading is cut.
func (h *Hub) ownMax() int { return h.opts.ClaimsMax + 64 }

// write sends o to a connection that is not stalled. It is false if nothing of
// it was sent; what the socket did not take of the rest is kept. l.mu is held.
func (l *loop) write(c handle, r *record, o *out) bool {
	n, errno := o.write(int(r.fd))
	switch {
	case errno == unix.EAGAIN:
		l.stall(c, r, nil)
		return false
	case errno != 0:
		l.hangUp(c, r, endLost, fmt.Errorf("broadcast: write: %w", errno))
		return false
	case n < o.size:
		l.stall(c, r, rest(o.bufs, n))
	}
	return true
}

// stall notes that a socket takes nothing now: readiness tells when it does.
func (l *loop) stall(c handle, r *record, left [][]byte) *stall {
	st := &stall{rest: left, moved: l.hub.clock()}
	l.stalls[c.slot] = st
	r.flags |= flagStalled
	l.hub.metrics.stalled.Inc()
	return st
}

// writable goes on with a stalled connection. l.mu is held.
func (l *loop) writable(c handle, r *record) {
	st := l.stalls[c.slot]
	var o out
	for {
		if len(st.rest) == 0 {
			if len(st.own) == 0 {
				break
			}
			st.rest, st.own = st.own, nil
		}
		o.set(st.rest)
		n, errno := o.write(int(r.fd))
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 {
			l.hangUp(c, r, endLost, fmt.Errorf("broadcast: write: %w", errno))
			return
		}
		l.hub.metrics.bytes.Add(float64(n))
		st.rest, st.moved = rest(st.rest, n), l.hub.clock()
		if n < o.size && len(o.bufs) <= iovMax {
			return
		}
	}
	delete(l.stalls, c.slot)
	r.flags &^= flagStalled
	l.hub.metrics.stalled.Dec()
	if r.flags&flagBye != 0 {
		l.gone(r)
		return
	}
	for _, s := range l.spots(c, r) {
		if a := l.audiences[s.view]; r.flags&flagStalled == 0 {
			l.bring(c, r, s, a)
		}
	}
}

// send writes a whole frame for one client alone, or keeps it. l.mu is held.
func (l *loop) send(c handle, r *record, frame []byte) {
	if r.flags&(flagBye|flagEnded) != 0 {
		return
	}
	if r.flags&flagStalled != 0 {
		st := l.stalls[c.slot]
		if len(st.own) >= l.hub.ownMax() {
			l.say(c, r, statusTooSlow, "too slow", endSlow, errTooSlow)
			return
		}
		st.own = append(st.own, frame)
		return
	}
	l.sendNow(c, r, frame)
}

// sendNow begins a frame on a connection that is not stalled.
func (l *loop) sendNow(c handle, r *record, frame []byte) {
	var o out
	o.set([][]byte{frame})
	if l.write(c, r, &o) {
		l.hub.metrics.bytes.Add(float64(len(frame)))
	} else if r.flags&flagEnded == 0 {
		l.stalls[c.slot].own = append(l.stalls[c.slot].own, frame)
	}
}

// say ends a connection with a close frame. The first one counts. l.mu is held.
func (l *loop) say(c handle, r *record, code ws.StatusCode, reason, why string, cause error) {
	if r.flags&(flagBye|flagEnded) != 0 {
		return
	}
	l.because(c, r, why, cause)
	frame := ownFrame(ws.OpClose, ws.NewCloseFrameBody(code, reason))
	if r.flags&flagStalled != 0 {
		l.stalls[c.slot].own = append(l.stalls[c.slot].own, frame)
		r.flags |= flagBye
		return
	}
	l.sendNow(c, r, frame)
	r.flags |= flagBye
	if r.flags&flagStalled == 0 {
		l.gone(r)
	}
}

// gone notes that the close frame is written: the client has closeWithin to
// answer, and what it sends is dropped.
func (l *loop) gone(r *record) {
	r.flags |= flagGone
	r.mark = l.hub.clock()
	_ = unix.Shutdown(int(r.fd), unix.SHUT_WR) // whoever is gone shows at the next read
}

// hangUp ends a connection at once: the client is gone or must go. The loop's
// goroutine finds the socket shut down, and forgets it. l.mu is held.
func (l *loop) hangUp(c handle, r *record, why string, cause error) {
	if r.flags&(flagBye|flagEnded) == 0 {
		l.because(c, r, why, cause)
	}
	r.flags |= flagEnded
	_ = unix.Shutdown(int(r.fd), unix.SHUT_RDWR)
}

// because notes why a connection ends.
func (l *loop) because(c handle, r *record, why string, cause error) {
	for i, reason := range endReasons {
		if reason == why {
			r.why = uint8(i)
		}
	}
	if e := l.endings[c.slot]; e != nil {
		e.cause = cause
	}
}

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

// deliver writes the news of the pass's first audience to some of its members.
func (l *loop) deliver() {
	runtime.LockOSThread() // whose time is taken
	defer runtime.UnlockOSThread()
	m := l.hub.metrics
	before := threadTime()
	l.mu.Lock()
	a := l.pass[0]
	l.prepare(a)
	sent := 0
	for range turnsAtOnce {
		if a.next >= len(a.members) {
			break
		}
		slot, r, s := l.spotOf(a, a.members[a.next])
		a.next++
		if l.tell(handle{l, slot, r.gen}, r, s, a) {
			sent++
		}
	}
	frames, size := a.head.frames, a.out.size
	over := a.next >= len(a.members)
	if over {
		a.next, a.head = 0, nil
		a.out.set(nil)
		clear(a.out.bufs[:cap(a.out.bufs)])
		l.pass = l.pass[1:]
		if len(l.pass) == 0 && len(l.due) == 0 {
			l.busy.Store(false)
		}
	}
	l.mu.Unlock()

	m.deliveryCPU.Add((threadTime() - before).Seconds())
	if sent > 0 {
		m.deliveries.Add(float64(sent * len(frames)))
		m.bytes.Add(float64(sent * size))
		now := cairn.InstantOf(l.hub.opts.Now())
		for _, f := range frames {
			if f.fresh != 0 { // one of these clients stands for all of them
				m.standings.Observe(now.Sub(f.fresh).Seconds())
			}
		}
	}
	if over && len(l.pass) == 0 {
		if l.freshest != 0 {
			m.staleness.Observe(cairn.InstantOf(l.hub.opts.Now()).Sub(l.freshest).Seconds())
		}
		l.hub.rest()
	}
}

// prepare has an audience's out ready for its view's newest batch.
func (l *loop) prepare(a *audience) {
	head := a.view.head.Load()
	if a.head == head {
		return
	}
	a.head = head
	bufs := make([][]byte, len(head.frames))
	for i, f := range head.frames {
		bufs[i] = f.ws
	}
	a.out.set(bufs)
}

// tell writes an audience's newest batch to a member if that is just what it
// lacks, and reports whether it did. Who lacks more is brought up to date by
// catchUps, and who is stalled, once it is not. l.mu is held, a is prepared.
func (l *loop) tell(c handle, r *record, s *spot, a *audience) bool {
	head := a.head
	switch {
	case r.flags&(flagStalled|flagBehind|flagBye|flagEnded) != 0:
		return false
	case r.told != head.life.number || s.life != head.life.number || s.resume || s.seq < head.prev:
		l.lagging(c, r)
		return false
	case s.seq >= head.seq || len(head.frames) == 0:
		return false
	case !l.write(c, r, &a.out):
		return false
	}
	s.seq, s.n = head.seq, uint32(head.n)
	return true
}

// bring tells one member of an audience what it lacks. l.mu is held.
func (l *loop) bring(c handle, r *record, s *spot, a *audience) {
	l.prepare(a)
	if l.tell(c, r, s, a) {
		l.hub.metrics.deliveries.Add(float64(len(a.head.frames)))
		l.hub.metrics.bytes.Add(float64(a.out.size))
	}
}

// lagging has catchUps bring a connection up to date.
func (l *loop) lagging(c handle, r *record) {
	r.flags |= flagBehind
	l.behind = append(l.behind, c)
	select {
	case l.lag <- struct{}{}:
	default:
	}
}

// catchUps brings connections up to date that need more than a batch, one
// after the other, until ctx ends.
func (l *loop) catchUps(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.lag:
		}
		for ctx.Err() == nil {
			l.mu.Lock()
			if len(l.behind) == 0 {
				l.mu.Unlock()
				break
			}
			c := l.behind[0]
			if l.behind = l.behind[1:]; len(l.behind) == 0 {
				l.behind = nil
			}
			l.mu.Unlock()
			l.catchUp(c)
		}
	}
}

// A lack is what one of a connection's spots wants.
type lack struct {
	was    spot
	cursor cursor
}

// catchUp brings a connection up to date: what it lacks is put together
// without l.mu, and written if the connection still lacks just that then. All
// the while flagBehind keeps passes from it.
func (l *loop) catchUp(c handle) {
	l.mu.Lock()
	r := l.record(c)
	if r == nil {
		l.mu.Unlock()
		return
	}
	if r.flags&(flagStalled|flagBye|flagEnded) != 0 {
		r.flags &^= flagBehind
		l.mu.Unlock()
		return
	}
	told, codec, player := r.told, r.codec, cairn.PlayerID("")
	lacks := l.lacks(c, r)
	if s := l.slabs[c.slot/slabSize].sessions[c.slot%slabSize]; s != nil {
		player = s.player
	}
	l.mu.Unlock()

	var bufs [][]byte
	var fs []*frame
	for i := range lacks {
		fs, _ = l.hub.collect(&lacks[i].cursor, fs, false)
		if life := lacks[i].cursor.life; life != nil && life.number != told {
			bufs = append(bufs, l.hub.welcome(codec, player, life))
			told = life.number
		}
	}
	for _, f := range fs {
		bufs = append(bufs, f.ws)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r = l.record(c); r == nil {
		return
	}
	r.flags &^= flagBehind
	if r.flags&(flagStalled|flagBye|flagEnded) != 0 {
		return
	}
	if !slices.EqualFunc(lacks, l.lacks(c, r), func(a, b lack) bool { return a.was == b.was }) {
		l.lagging(c, r) // it watches something else by now
		return
	}
	if len(bufs) > 0 {
		var o out
		o.set(bufs)
		if !l.write(c, r, &o) {
			return // once it can be written to, what it lacks then
		}
		l.hub.metrics.deliveries.Add(float64(len(fs)))
		l.hub.metrics.bytes.Add(float64(o.size))
	}
	r.told = told
	for i, s := range l.spots(c, r) {
		if k := &lacks[i].cursor; k.life != nil {
			s.life, s.n, s.seq, s.resume = k.life.number, uint32(k.n), k.seq, k.resume
		}
	}
	for _, s := range l.spots(c, r) {
		l.bring(c, r, s, l.audiences[s.view]) // what came meanwhile
	}
}

// lacks returns where a connection is, as collect wants to know. l.mu is held.
func (l *loop) lacks(c handle, r *record) []lack {
	var all []lack
	for _, s := range l.spots(c, r) {
		v := l.audiences[s.view].view
		all = append(all, lack{*s, cursor{view: v, life: lifeOf(s.life, v), n: uint64(s.n), seq: s.seq, resume: s.resume}})
	}
	return all
}

// lifeOf returns the life of a number, as far as a cursor of v wants to know.
func lifeOf(number uint32, v *view) *life {
	if number == 0 {
		return nil
	}
	if l := v.head.Load().life; l.number == number {
		return l
	}
	return anotherLife
}

// anotherLife stands for any that is over.
var anotherLife = &life{}

// threadTime returns the CPU time of the calling thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	if _, _, errno := syscall.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0
	}
	return time.Duration(ts.Nano())
}
