package broadcast

import (
	"fmt"
	"math"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// An out is what one write sends, in the form that the kernel takes.
type out struct {
	bufs [][]byte
	iov  []unix.Iovec
	msg  unix.Msghdr
	size int       // bytes
	one  [1][]byte // of setOne
}

func (o *out) set(bufs [][]byte) {
	o.bufs, o.iov, o.size = append(o.bufs[:0], bufs...), o.iov[:0], 0
	for _, b := range bufs {
		o.size += len(b)
		if len(b) > 0 {
			v := unix.Iovec{Base: unsafe.SliceData(b)}
			v.SetLen(len(b))
			o.iov = append(o.iov, v)
		}
	}
}

// setOne is set for one piece, which may be nil.
func (o *out) setOne(b []byte) {
	o.one[0] = b
	o.set(o.one[:])
}

func (o *out) setMsg(iov []unix.Iovec) {
	o.msg = unix.Msghdr{Iov: unsafe.SliceData(iov)}
	o.msg.SetIovlen(len(iov))
}

// sendFlags: whatever the socket does not take now is left; one whose client is
// gone is an error, and no signal.
const sendFlags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL

// write writes what the socket takes now. Less than all of it says that the
// socket is full, and so that readiness will tell when it is not.
func (o *out) write(fd int) (int, syscall.Errno) {
	if len(o.iov) <= iovMax {
		return o.call(fd, o.iov)
	}
	sent := 0
	for iov := o.iov; len(iov) > 0; {
		part := iov[:min(len(iov), iovMax)]
		iov = iov[len(part):]
		n, errno := o.call(fd, part)
		if errno != 0 && sent == 0 {
			return 0, errno
		}
		sent += n
		for i := range part {
			n -= int(part[i].Len)
		}
		if n < 0 || errno != 0 { // an error of the socket shows as readiness too
			break
		}
	}
	return sent, 0
}

// call is one system call of write. It can't block, so the scheduler need not
// know of it; and send is a tenth cheaper than write, which goes by way of
// files.
func (o *out) call(fd int, iov []unix.Iovec) (int, syscall.Errno) {
	for {
		var n uintptr
		var errno syscall.Errno
		if len(iov) == 1 {
			n, _, errno = syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(iov[0].Base)), uintptr(iov[0].Len), sendFlags, 0, 0)
		} else {
			o.setMsg(iov)
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
	own   [][]byte // whole frames for this client alone
	count int      // of the frames in own: at most ownMax
	moved uint32   // when it last took a byte (Hub.clock)
	began uint32   // when rest was all of what is in flight
	told  bool     // it was told that it is too slow
}

// keep keeps so many frames of the client's own, unless there are most.
func (st *stall) keep(b []byte, frames, most int) bool {
	if st.count+frames > most {
		return false
	}
	st.own, st.count = append(st.own, b), st.count+frames
	return true
}

// write sends o to a connection that is not stalled. It is false if nothing of
// it was sent; what the socket did not take of the rest is kept. l.mu is held.
func (l *loop) write(c handle, r *record, o *out) bool {
	n, errno := o.write(int(r.fd))
	return l.wrote(c, r, o, n, errno)
}

// wrote is what write does once the socket has taken n bytes or none.
func (l *loop) wrote(c handle, r *record, o *out, n int, errno syscall.Errno) bool {
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
func (l *loop) stall(c handle, r *record, left [][]byte) {
	now := l.hub.clock()
	l.stalls[c.slot] = &stall{rest: left, moved: now, began: now}
	r.flags |= flagStalled
	l.hub.metrics.stalled.Inc()
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
			st.rest, st.own, st.count = st.own, nil, 0
			if !st.told {
				st.began = l.hub.clock()
			}
			for _, b := range st.rest { // what was begun before is counted
				l.hub.metrics.bytes.Add(float64(len(b)))
			}
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
		st.rest, st.moved = rest(st.rest, n), l.hub.clock()
		if n < o.size {
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
	l.flushReplies(c, r)
	if r.flags&(flagBye|flagEnded) != 0 {
		return
	}
	if r.flags&flagStalled != 0 {
		if !l.stalls[c.slot].keep(frame, 1, l.hub.ownMax()) {
			l.say(c, r, statusTooSlow, "too slow", endSlow, errTooSlow)
		}
		return
	}
	l.sendNow(c, r, frame, 1)
}

// sendNow begins so many frames, one behind the other in b, on a connection
// that is not stalled.
func (l *loop) sendNow(c handle, r *record, b []byte, frames int) {
	o := &l.sending
	o.setOne(b)
	if l.write(c, r, o) {
		l.hub.metrics.bytes.Add(float64(len(b)))
	} else if r.flags&flagEnded == 0 {
		l.stalls[c.slot].keep(b, frames, math.MaxInt)
	}
	o.setOne(nil)
}

// say ends a connection with a close frame. The first one counts. l.mu is held.
func (l *loop) say(c handle, r *record, code ws.StatusCode, reason, why string, cause error) {
	l.flushReplies(c, r)
	if r.flags&(flagBye|flagEnded) != 0 {
		return
	}
	l.because(c, r, why, cause)
	frame := ownFrame(ws.OpClose, ws.NewCloseFrameBody(code, reason))
	if r.flags&flagStalled != 0 {
		l.stalls[c.slot].keep(frame, 1, math.MaxInt)
		r.flags |= flagBye
		return
	}
	l.sendNow(c, r, frame, 1)
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

// cut is hangUp for a client that won't take what it was sent: the kernel is to
// forget that at once. Else it would go on to offer it for minutes, in memory
// that counts for all.
func (l *loop) cut(c handle, r *record, why string, cause error) {
	_ = unix.SetsockoptLinger(int(r.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	l.hangUp(c, r, why, cause)
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
