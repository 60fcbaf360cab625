package broadcast

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/veltrix/cairn"
)

const (
	eventsAtOnce = 128      // readiness events taken up by one call
	eventsInPass = 8        // while there is something to deliver: between two calls that do
	readAtOnce   = 16 << 10 // bytes; the one buffer that a loop reads into
	readsInARow  = 4        // of one connection, before the others have their turn
	bellSlot     = -1       // the event that is not a connection's
)

// A loop serves its share of the connections: one goroutine that reads what
// they say and writes what a sweep has for them, one that brings up to date
// those who need more than the newest batch, and one that writes what came of
// claims. A connection without news is a
// record of some 60 bytes, and costs no goroutine, timer or buffer.
//
// The loop's goroutine alone reads sockets and closes them. Whoever holds mu
// may write to one, and ends one by shutting it down, which shows as readiness.
// mu is never held while the hub's is taken.
type loop struct {
	hub  *Hub
	file *os.File        // the epoll descriptor: the runtime's poller tells when it has events
	wait syscall.RawConn // of file
	epfd int
	bell int           // an eventfd that wakes the loop's goroutine
	busy atomic.Bool   // a sweep is not delivered yet
	lag  chan struct{} // holds a token when behind has work

	answers answers

	// Owned by the loop's goroutine.
	events   [eventsAtOnce]unix.EpollEvent
	n        int // events taken up
	poll     func(uintptr) bool
	buf      []byte
	claims   claims        // of the session that reads
	unread   []handle      // connections that may have more to read
	pass     []*audience   // being delivered to, the first one first
	uring    *uring        // used with mu held; nil where there is none
	turns    []turn        // of deliver
	over     []*audience   // of deliver
	freshest cairn.Instant // at of the newest claim in the pass; 0 if none

	mu        sync.Mutex // guards what follows
	slabs     []*slab
	free      []uint32 // slots
	stalls    map[uint32]*stall
	cuts      int                // of stalled clients, that are left in this check
	more      map[uint32][]spot  // of those who watch several hunts: all but the first
	endings   map[uint32]*ending // of those whose end someone waits for
	audiences []*audience        // by number; the first is nil
	unused    []uint32           // numbers
	byView    map[*view]*audience
	sending   out           // of sendNow
	behind    []handle      // connections that need more than the newest batch
	due       []*audience   // with news that wait for a pass
	newest    cairn.Instant // at of the newest claim among them
}

// An ending is told how a connection ended.
type ending struct {
	ended func(error)
	cause error
}

// A handle is a connection of a loop. It goes stale when that ends.
type handle struct {
	loop      *loop
	slot, gen uint32
}

func newLoop(h *Hub) (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("broadcast: epoll: %w", err)
	}
	l := &loop{
		hub: h, epfd: epfd, lag: make(chan struct{}, 1), buf: make([]byte, readAtOnce),
		answers: answers{wake: make(chan struct{}, 1)},
		stalls:  map[uint32]*stall{}, more: map[uint32][]spot{}, endings: map[uint32]*ending{},
		audiences: make([]*audience, 1), byView: map[*view]*audience{},
	}
	if err = unix.SetNonblock(epfd, true); err == nil { // or the runtime would not poll it
		l.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	}
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("broadcast: eventfd: %w", err)
	}
	l.file = os.NewFile(uintptr(epfd), "epoll")
	err = unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, l.bell, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: bellSlot})
	if err == nil {
		err = l.file.SetReadDeadline(time.Time{}) // an error if it is not polled
	}
	if err == nil {
		l.wait, err = l.file.SyscallConn()
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("broadcast: epoll: %w", err)
	}
	if !h.opts.oneByOne {
		if l.uring, err = newUring(); err != nil {
			h.opts.Log.Info("broadcast: deliveries are written one by one", "err", err)
		}
	}
	l.poll = func(uintptr) bool {
		l.n = epollWait(l.epfd, l.events[:])
		return l.n != 0
	}
	return l, nil
}

// close gives back the loop's own descriptors, after run has ended.
func (l *loop) close() {
	if l.uring != nil {
		l.uring.close()
	}
	l.file.Close()
	unix.Close(l.bell)
}

// ring wakes the loop's goroutine.
func (l *loop) ring() {
	// The bell's counter is never read: it must take a one for ages, since a
	// write that would make it overflow wakes nobody.
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(l.bell, one[:])
}

// run serves connections until ctx ends.
func (l *loop) run(ctx context.Context) {
	var others sync.WaitGroup
	others.Go(func() { l.catchUps(ctx) })
	others.Go(func() { l.reply(ctx) })
	defer others.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		if len(l.pass) == 0 && len(l.unread) == 0 && !l.takeUp() {
			if err := l.wait.Read(l.poll); err != nil {
				return // the deadline of stop
			}
		} else {
			l.n = epollWait(l.epfd, l.events[:l.eventsNow()])
		}
		for i := range l.events[:max(0, l.n)] {
			l.handle(&l.events[i])
		}
		again := l.unread
		l.unread = nil
		for _, c := range again {
			l.readable(c)
		}
		if l.takeUp() {
			l.deliver()
		}
	}
}

// eventsNow returns how many events are taken up before the next deliveries.
// What clients say, and above all the end of many of them at once, waits for
// deliveries more than these for it.
func (l *loop) eventsNow() int {
	if len(l.pass) > 0 {
		return eventsInPass
	}
	return eventsAtOnce
}

// epollWait takes up events without waiting. It can't block, so the scheduler
// need not know of it.
func epollWait(epfd int, events []unix.EpollEvent) int {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0 // EINTR
	}
	return int(n)
}

// handle takes up one event.
func (l *loop) handle(e *unix.EpollEvent) {
	if e.Fd == bellSlot {
		return // edge-triggered: it need not be read
	}
	c := handle{l, uint32(e.Fd), uint32(e.Pad)}
	l.mu.Lock()
	r := l.record(c)
	if r == nil {
		l.mu.Unlock()
		return
	}
	if e.Events&unix.EPOLLOUT != 0 && r.flags&flagStalled != 0 {
		l.writable(c, r)
	}
	early := r.flags&flagEarly != 0
	r.flags &^= flagEarly
	l.mu.Unlock()
	if early {
		l.hear(c, nil)
	}
	if e.Events&^unix.EPOLLOUT != 0 {
		l.readable(c)
	}
}

// readable reads what a client sent. Connections are watched for edges: it
// reads until there is nothing left, or comes back to it.
func (l *loop) readable(c handle) {
	for range readsInARow {
		l.mu.Lock()
		r := l.record(c)
		if r == nil {
			l.mu.Unlock()
			return
		}
		fd, deaf := int(r.fd), r.flags&(flagBye|flagEnded) != 0
		r.heard = l.hub.clock()
		l.mu.Unlock()

		n, errno := readRaw(fd, l.buf)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno == unix.EINTR:
			continue
		case errno != 0:
			l.lost(c, fmt.Errorf("broadcast: connection lost: %w", errno))
			return
		case n == 0:
			l.lost(c, errLost)
			return
		}
		if !deaf {
			l.hear(c, l.buf[:n])
		}
	}
	l.unread = append(l.unread, c)
}

// hear has a session take bytes, and drops it when there is nothing more to
// know of the client than its record says. Without bytes there is no need of a
// session: most reads find that there is nothing left.
func (l *loop) hear(c handle, b []byte) {
	l.mu.Lock()
	r := l.record(c)
	if r == nil {
		l.mu.Unlock()
		return
	}
	if *l.sessionAt(c.slot) == nil && isPong(b) { // what most have to say, ever
		l.mu.Unlock()
		return
	}
	s := l.session(c, r)
	l.mu.Unlock()
	if b == nil { // what came behind the handshake
		b, s.in.rest = s.in.rest, nil
	}
	_ = s.in.feed(s, b) // says goodbye by itself
	if s.plain() {
		l.mu.Lock()
		if r := l.record(c); r != nil && r.view != 0 {
			*l.sessionAt(c.slot) = nil
		}
		l.mu.Unlock()
	}
}

// readRaw reads from a non-blocking socket.
func readRaw(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// lost ends a connection whose socket said that it is over. Only the loop's
// goroutine calls it.
func (l *loop) lost(c handle, cause error) {
	l.mu.Lock()
	r := l.record(c)
	if r == nil {
		l.mu.Unlock()
		return
	}
	if r.flags&(flagBye|flagEnded) == 0 {
		l.because(c, r, endLost, cause)
	}
	fd, why := int(r.fd), endReasons[r.why]
	s := *l.sessionAt(c.slot)
	e := l.endings[c.slot]
	views := l.forget(c, r)
	l.mu.Unlock()

	unix.Close(fd) // nobody can write to it any more
	if s != nil {
		s.out.(*link).end()
	}
	for _, v := range views {
		l.hub.release(v)
	}
	l.hub.metrics.closes.WithLabelValues(why).Inc()
	l.hub.connected(-1)
	if e != nil {
		e.ended(e.cause)
	}
	l.hub.serving.Done()
}
