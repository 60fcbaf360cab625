package broadcast

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// iovMax is how many buffers one writev takes (IOV_MAX).
const iovMax = 1024

var errWouldBlock = errors.New("broadcast: socket takes nothing now")

// An attempt is one system call that writes without waiting. It is kept in the
// connection so that an attempt allocates nothing.
type attempt struct {
	call func(fd uintptr) bool // once, for syscall.RawConn
	bufs [][]byte
	n    int
	err  error
}

func (a *attempt) init() {
	a.call = func(fd uintptr) bool {
		for {
			if len(a.bufs) == 1 {
				a.n, a.err = unix.Write(int(fd), a.bufs[0])
			} else {
				a.n, a.err = unix.Writev(int(fd), a.bufs)
			}
			if a.err != unix.EINTR {
				return true // and never wait for the socket
			}
		}
	}
}

// rawConn returns what try needs of nc, or nil if nc has no socket of its own.
func rawConn(nc net.Conn) syscall.RawConn {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// try writes what is in flight as far as the socket takes it now.
// errWouldBlock says that some is left.
func (c *conn) try() error {
	if c.raw == nil {
		return errWouldBlock
	}
	a := &c.attempt
	for len(c.bufs) > 0 {
		a.bufs = c.bufs[:min(len(c.bufs), iovMax)]
		err := c.raw.Write(a.call)
		a.bufs = nil
		if err == nil {
			err = a.err
		}
		if err == unix.EAGAIN {
			return errWouldBlock
		}
		if err != nil {
			return err
		}
		for n := a.n; n > 0; {
			if n < len(c.bufs[0]) {
				c.bufs[0] = c.bufs[0][n:]
				break
			}
			n -= len(c.bufs[0])
			c.bufs = c.bufs[1:]
		}
	}
	return nil
}
