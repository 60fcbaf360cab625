package crowd

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	eventsAtOnce = 256
	readsInARow  = 8  // of one connection, before the others have their turn
	bellSlot     = -1 // the event that is not a member's
)

// An epollLink is driven by readiness: whoever has nothing to read costs
// nothing here.
type epollLink struct {
	loop   *loop
	epfd   int
	bell   int // an eventfd
	buf    []byte
	events [eventsAtOnce]unix.EpollEvent
	busy   bool     // there were many events, and may be more
	unread []handle // may have more to read
	again  []handle
}

func newLink(l *loop) (link, error) {
	if l.opts.Portable {
		return newPortableLink(l), nil
	}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("crowd: epoll: %w", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("crowd: eventfd: %w", err)
	}
	k := &epollLink{loop: l, epfd: epfd, bell: bell, buf: make([]byte, readAtOnce)}
	if err := k.watch(bell, bellSlot, 0, unix.EPOLLIN|unix.EPOLLET); err != nil {
		k.close()
		return nil, fmt.Errorf("crowd: epoll: %w", err)
	}
	return k, nil
}

func (k *epollLink) watch(fd int, slot int32, gen uint32, events uint32) error {
	return unix.EpollCtl(k.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: slot, Pad: int32(gen)})
}

func (k *epollLink) close() {
	unix.Close(k.epfd)
	unix.Close(k.bell)
}

func (k *epollLink) wake() {
	one := [8]byte{7: 1} // any order of bytes is above 0
	_, _ = unix.Write(k.bell, one[:])
}

func (k *epollLink) dial(c handle, m *member, to netip.AddrPort, small bool) error {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("crowd: socket: %w", err)
	}
	err = connect(fd, k.source(c.slot), to, small)
	if err == nil {
		err = k.watch(fd, int32(c.slot), c.gen, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET)
	}
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("crowd: connect: %w", err)
	}
	m.fd = int32(fd)
	return nil
}

// perSource is how many connections of a loop come from one loopback address.
// An address has 28,000 ports for one server, but the kernel looks for a free
// one at length once half of them are taken.
const perSource = 8 << 10

// source returns the loopback address that a member connects from. The first
// ones of a process that carries a crowd alone leave it to the system.
func (k *epollLink) source(slot uint32) netip.Addr {
	n := uint32(k.loop.number*sourcesPerProcess) + slot/perSource
	if n == 0 {
		return netip.Addr{}
	}
	n++ // 127.0.0.1 is the system's choice
	return netip.AddrFrom4([4]byte{127, byte(n >> 16), byte(n >> 8), byte(n)})
}

// sourcesPerProcess is enough for as many files as a process may ever have.
const sourcesPerProcess = 128

// ethernetSegment is the TCP segment of most of the internet, in bytes.
const ethernetSegment = 1460

// connect begins to connect. A buffer's size must be set before, since it is
// what the window is made of; the source's port is chosen with regard to the
// target, or there would be too few.
func connect(fd int, from netip.Addr, to netip.AddrPort, small bool) error {
	if small {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, smallBuffer); err != nil {
			return err
		}
		// The server's buffer grows with the segment's size, which is 64 KiB on
		// the loopback: it would hold minutes of deltas before a write fails.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, ethernetSegment); err != nil {
			return err
		}
	}
	if from.IsValid() && to.Addr().Is4() && to.Addr().IsLoopback() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
			return err
		}
	}
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
	if to.Addr().Is4() {
		sa = &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		return err
	}
	return nil
}

func (k *epollLink) send(_ handle, m *member, b []byte) error {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(m.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	switch {
	case errno == unix.EAGAIN || errno == 0 && int(n) < len(b):
		return errBlocked
	case errno != 0:
		return fmt.Errorf("crowd: send: %w", errno)
	}
	return nil
}

func (k *epollLink) unpause(c handle, m *member) {
	if m.is(flagSmall) {
		_ = unix.SetsockoptInt(int(m.fd), unix.SOL_SOCKET, unix.SO_RCVBUF, largeBuffer) // one that fails is one that is slow
	}
	k.unread = append(k.unread, c)
}

func (k *epollLink) hangUp(_ handle, m *member, reset bool) {
	if reset {
		_ = unix.SetsockoptLinger(int(m.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	unix.Close(int(m.fd))
	m.fd = -1
}

func (k *epollLink) poll(wait time.Duration) {
	if len(k.unread) > 0 {
		wait = 0
	}
	n := 0
	if k.busy || wait == 0 {
		n = k.wait(0)
	}
	if n == 0 && wait > 0 {
		n = k.wait(int((wait + time.Millisecond - 1) / time.Millisecond))
	}
	k.busy = n >= eventsAtOnce/8
	if gather := k.loop.opts.Gather; gather > 0 && n > 0 && !k.busy {
		k.busy = true // there will be more
		pause := unix.NsecToTimespec(int64(gather))
		_ = unix.Nanosleep(&pause, nil) // one that is cut short is long enough
	}
	for i := range k.events[:n] {
		k.handle(&k.events[i])
	}
	k.again, k.unread = k.unread, k.again[:0]
	for _, c := range k.again {
		if m := k.loop.current(c); m != nil && m.phase != phaseWaiting {
			k.readable(c, m)
		}
	}
}

// wait takes up events. What can't block is none of the scheduler's business.
func (k *epollLink) wait(ms int) int {
	call := syscall.RawSyscall6
	if ms > 0 {
		call = syscall.Syscall6
	}
	n, _, errno := call(unix.SYS_EPOLL_PWAIT, uintptr(k.epfd), uintptr(unsafe.Pointer(&k.events)), eventsAtOnce, uintptr(ms), 0, 0)
	if errno != 0 {
		return 0 // EINTR
	}
	return int(n)
}

func (k *epollLink) handle(e *unix.EpollEvent) {
	c := handle{uint32(e.Fd), uint32(e.Pad)}
	if e.Fd == bellSlot {
		return // edge-triggered: it need not be read
	}
	m := k.loop.current(c)
	if m == nil {
		return
	}
	if m.phase == phaseDialing {
		if e.Events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			return
		}
		code, err := unix.GetsockoptInt(int(m.fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil || code != 0 {
			k.loop.lost(c, fmt.Errorf("crowd: connect: %w", syscall.Errno(code)))
			return
		}
		k.loop.opened(c)
		if e.Events &^= unix.EPOLLOUT; e.Events == 0 || m.gen != c.gen {
			return
		}
	}
	if m.is(flagStalled) {
		if e.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			k.loop.lost(c, fmt.Errorf("crowd: %w", errCutStalled))
		}
		return
	}
	if e.Events&^unix.EPOLLOUT != 0 {
		k.readable(c, m)
	}
}

// readable reads what came. A read that does not fill the buffer has emptied
// the socket: there will be an event for what comes later, also for its end.
func (k *epollLink) readable(c handle, m *member) {
	for range readsInARow {
		if m.is(flagStalled) {
			return
		}
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(m.fd), uintptr(unsafe.Pointer(unsafe.SliceData(k.buf))), uintptr(len(k.buf)), 0, 0, 0)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno == unix.EINTR:
			continue
		case errno != 0:
			k.loop.lost(c, fmt.Errorf("crowd: receive: %w", errno))
			return
		case n == 0:
			k.loop.lost(c, errEOF)
			return
		}
		if !k.loop.heard(c, k.buf[:n], time.Now().UnixMicro()) {
			return
		}
	}
	k.unread = append(k.unread, c)
}
