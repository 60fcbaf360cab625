package server

import (
	"bufio"
	"io"
	"net"
	"syscall"
)

// An earlyConn is a TCP connection of which some bytes were read already: Read
// returns those first. It has what net/http looks for in a *net.TCPConn, but
// not WriteTo, which would go past them. One goroutine reads at a time.
type earlyConn struct {
	net.Conn
	tcp   *net.TCPConn // Conn
	early []byte
}

func newEarlyConn(c *net.TCPConn, early []byte) *earlyConn { return &earlyConn{c, c, early} }

// Read implements net.Conn.
func (c *earlyConn) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.tcp.Read(b)
}

// SyscallConn implements syscall.Conn. What is read from it comes behind the
// early bytes.
func (c *earlyConn) SyscallConn() (syscall.RawConn, error) { return c.tcp.SyscallConn() }

// CloseWrite ends what is sent, and not what is received.
func (c *earlyConn) CloseWrite() error { return c.tcp.CloseWrite() }

// ReadFrom implements io.ReaderFrom: net/http sends files with it.
func (c *earlyConn) ReadFrom(r io.Reader) (int64, error) { return c.tcp.ReadFrom(r) }

// splitEarly returns the connection that br was read from, and all that was
// read of it and is not used yet: in br and, before that came there, by a front.
func splitEarly(conn net.Conn, br *bufio.Reader) (net.Conn, []byte) {
	early, _ := br.Peek(br.Buffered())
	if c, ok := conn.(*earlyConn); ok {
		return c.tcp, append(early[:len(early):len(early)], c.early...)
	}
	return conn, early
}
