package broadcast

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// loops are the loops of a hub, one a core. nil is none.
type loops []*loop

// poll starts the loops. They run until ctx ends.
func (h *Hub) poll(ctx context.Context, running *sync.WaitGroup) error {
	if h.opts.Portable {
		return nil
	}
	ls := make(loops, runtime.GOMAXPROCS(0))
	for i := range ls {
		var err error
		if ls[i], err = newLoop(h); err != nil {
			for _, l := range ls[:i] {
				l.close()
			}
			return err
		}
	}
	for _, l := range ls {
		running.Go(func() {
			l.run(ctx)
			l.close()
		})
	}
	h.loops.Store(&ls)
	return nil
}

var errNoLoops = errors.New("broadcast: no sockets are taken without a net.Conn")

// Adopt is [Hub.Serve] for a connected, non-blocking stream socket: the hub
// owns fd from here on, unless it returns an error: ErrNotReady, ErrDraining,
// or the system's.
func (h *Hub) Adopt(fd int, early []byte, codec Codec, edge Edge) error {
	if err := h.admit(); err != nil {
		return err
	}
	ls := h.loops.Load()
	if ls == nil {
		h.serving.Done()
		return errNoLoops
	}
	if err := h.adopt(*ls, fd, early, codec, edge, nil); err != nil {
		h.serving.Done()
		return err
	}
	return nil
}

// adopt gives a socket to one of the loops.
func (h *Hub) adopt(ls loops, fd int, early []byte, codec Codec, edge Edge, ended func(error)) error {
	l := ls[h.joined.Add(1)%uint64(len(ls))]
	c, err := l.adopt(fd, early, codec, edge, ended)
	if err != nil {
		return err
	}
	h.mu.RLock()
	stopped := h.stopped
	h.mu.RUnlock()
	if stopped { // stop has already looked for clients
		c.end(false)
	}
	return nil
}

// poach takes a connection's socket from it for one of the loops, if it has one
// of its own and there are loops.
func (h *Hub) poach(conn net.Conn, early []byte, codec Codec, edge Edge, ended func(error)) bool {
	ls := h.loops.Load()
	sc, ok := conn.(syscall.Conn)
	if ls == nil || !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	fd := -1
	if err := raw.Control(func(own uintptr) {
		if kind, err := unix.GetsockoptInt(int(own), unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
			return
		}
		if n, err := unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			fd = n
		}
	}); err != nil || fd < 0 {
		return false
	}
	if err := h.adopt(*ls, fd, early, codec, edge, ended); err != nil {
		unix.Close(fd)
		return false
	}
	conn.Close() // this descriptor of it, not the socket
	return true
}

// The methods below are for nil too.

func (ls *loops) each(f func(recipient)) {
	if ls != nil {
		for _, l := range *ls {
			f(l)
		}
	}
}

func (ls *loops) peers(ps []peer) []peer {
	if ls != nil {
		for _, l := range *ls {
			ps = l.handles(ps)
		}
	}
	return ps
}

func (ls *loops) busy() bool {
	if ls != nil {
		for _, l := range *ls {
			if !l.rested() {
				return true
			}
		}
	}
	return false
}

func (ls *loops) check() {
	if ls != nil {
		for _, l := range *ls {
			l.check()
		}
	}
}
