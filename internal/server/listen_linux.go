package server

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

const sharesPorts = true

// deferAcceptSeconds is how long a connection on which nothing was said yet is
// kept from us: usually it is accepted together with its first bytes.
const deferAcceptSeconds = 1

// tuneListener returns what sets a listener's options before it is bound. On
// Linux the sockets that it accepts have them as well, at no call each.
func tuneListener(shared bool) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		return withSocket(c, func(fd int) error {
			if shared {
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
					return err
				}
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBufferBytes); err != nil {
				return err
			}
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
				return err
			}
			return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferAcceptSeconds)
		})
	}
}

// sharePort lets more listeners onto the port of one that was alone on it.
func sharePort(ln net.Listener) error {
	c, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	return withSocket(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
}

func withSocket(c syscall.RawConn, f func(fd int) error) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
