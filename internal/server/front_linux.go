package server

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veltrix/cairn/internal/broadcast"
)

// A hub is who takes over sockets: a *broadcast.Hub.
type hub interface {
	Adopt(fd int, early []byte, codec broadcast.Codec, edge broadcast.Edge) error
	Serve(conn net.Conn, early []byte, codec broadcast.Codec, edge broadcast.Edge, ended func(error))
}

// A front accepts for net/http, and keeps for itself what most connections in a
// storm are: plain handshakes of /v1/live. Such a one is read into a buffer that
// all share, answered, and its socket handed to the hub, without a goroutine,
// a net.Conn or a request of net/http. Everything else, or whatever is not
// whole or could be read in two ways, becomes an ordinary connection with the
// bytes that were read put back in front.
type front struct {
	// Static after Front.
	s    *Server
	hub  hub
	file *os.File // the listening socket, in Go's poller
	raw  syscall.RawConn
	addr net.Addr

	closed atomic.Bool

	mu    sync.Mutex // held by Accept, guards what follows
	pace  *broadcast.Pace
	try   func(fd uintptr) bool
	fd    int // what try accepted
	from  unix.Sockaddr
	err   error
	buf   [headerBytesMax]byte
	shake *handshake
	out   []byte
}

// Front returns a listener in front of ln that answers handshakes of /v1/live
// by itself, as far as that can be told from no answer of net/http's but for
// the time it takes, and leaves the rest to whoever calls Accept: a
// [Serve] of [Server.Public]. It owns ln. What is not a TCP listener of this
// system is returned as it is.
func (s *Server) Front(ln net.Listener) net.Listener { return s.front(ln, s.rooms.Hub) }

func (s *Server) front(ln net.Listener, to hub) net.Listener {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return ln
	}
	// A *net.TCPListener lets nobody else wait for it. A second descriptor of
	// the same socket, as a file, does.
	file, err := tcp.File()
	if err != nil {
		s.opts.Log.Warn("live: handshakes are left to net/http", "err", err)
		return ln
	}
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		s.opts.Log.Warn("live: handshakes are left to net/http", "err", err)
		return ln
	}
	tcp.Close()
	f := &front{s: s, hub: to, file: file, raw: raw, addr: tcp.Addr(), shake: newHandshake(), pace: s.rooms.Hub.Pace()}
	f.try = func(fd uintptr) bool {
		f.fd, f.from, f.err = unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return f.err != unix.EAGAIN
	}
	return f
}

// Addr implements net.Listener.
func (f *front) Addr() net.Addr { return f.addr }

// Close implements net.Listener.
func (f *front) Close() error {
	f.closed.Store(true)
	return f.file.Close()
}

// Accept implements net.Listener: it returns the next connection that is not
// the front's own to answer.
func (f *front) Accept() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		err := f.raw.Read(f.try)
		if err == nil {
			err = f.err
		}
		switch {
		case err == nil:
			f.pace.Step()
			if c := f.greet(); c != nil {
				return c, nil
			}
		case err == unix.EINTR, err == unix.ECONNABORTED:
			// it is gone already
		case f.closed.Load():
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: f.addr, Err: net.ErrClosed}
		default: // of no descriptors, above all: net/http waits a little
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: f.addr, Err: os.NewSyscallError("accept4", err)}
		}
	}
}

// greet looks at what the accepted client said first. It returns the
// connection if the answer is net/http's.
func (f *front) greet() net.Conn {
	n, err := unix.Read(f.fd, f.buf[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		n = 0 // it is waited for elsewhere
	case err != nil || n == 0:
		unix.Close(f.fd)
		return nil
	}
	if n > 0 && f.shake.read(f.buf[:n]) && f.s.mayUpgrade(&f.shake.req) == nil {
		if f.upgrade(f.buf[:n]) {
			return nil
		}
	}
	c, err := ordinary(f.fd, f.buf[:n])
	if err != nil {
		f.s.opts.Log.Warn("http: connection lost", "err", err)
		return nil
	}
	return c
}

// upgrade answers the handshake that was read and that is well-formed. It is
// false if net/http is to do it.
func (f *front) upgrade(b []byte) bool {
	start := time.Now()
	h := f.shake
	id := connIDOf(&h.req)
	if reason, after := f.s.admitSocket(start); reason != "" {
		f.refuse(reason, after, id, start)
		return true
	}
	answer, protocol, ok := h.answer(b, id)
	if !ok {
		return false
	}
	codec, _ := broadcast.CodecOf(protocol) // none was asked for: JSON, the zero value
	from := addrOf(f.from)
	e := &edge{s: f.s, id: id}
	e.addr, e.counted = addressOf(f.s.opts.Limits.Proxies.client(from.Addr(), h.req.Header))
	if n, err := unix.Write(f.fd, answer); err != nil || n < len(answer) {
		unix.Close(f.fd) // it has gone: a new socket has room for that much
		f.done(http.StatusSwitchingProtocols, n, shakeLost, id, from, start)
		return true
	}
	f.done(http.StatusSwitchingProtocols, len(answer), "", id, from, start)
	if f.hub.Adopt(f.fd, h.body, codec, e) == nil {
		return true
	}
	// It can't, or will not any more: as a connection it does, or says so.
	c, err := ordinary(f.fd, nil)
	if err != nil {
		f.s.opts.Log.Warn("live: connection lost", "request_id", id.String(), "from", from, "err", err)
		return true
	}
	f.hub.Serve(c, h.body, codec, e, nil)
	return true
}

// refuse answers a handshake that was not admitted, and hangs up.
func (f *front) refuse(reason string, after int, id connID, start time.Time) {
	f.out = appendRefusal(f.out[:0], reason, after, id.String(), start)
	n, _ := unix.Write(f.fd, f.out)
	unix.Close(f.fd)
	f.done(http.StatusServiceUnavailable, n, reason, id, addrOf(f.from), start)
}

// done counts an answer, as [Server.around] does for net/http's.
func (f *front) done(status, bytes int, refused string, id connID, from netip.AddrPort, start time.Time) {
	took := time.Since(start)
	m := f.s.metrics
	m.answered(liveRoute, status, took)
	if refused == "" {
		m.shakes[pathFast].Inc()
	} else {
		m.shakesRefused[refused].Inc()
	}
	ctx := f.s.drainCtx
	if log := f.s.opts.Log; log.Enabled(ctx, slog.LevelDebug) {
		log.LogAttrs(ctx, slog.LevelDebug, "http", slog.String("request_id", id.String()), slog.String("method", http.MethodGet),
			slog.String("path", "/v1/live"), slog.Int("status", status), slog.Int("bytes", bytes),
			slog.Duration("took", took), slog.String("from", from.String()))
	}
}

// ordinary makes a socket a connection as net's own listener would have, with
// bytes that were read from it already. The send buffer grows with the need
// again: a call's answer may be large, and ends.
func ordinary(fd int, early []byte) (net.Conn, error) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0) // before Linux 5.14 it stays as it is
	file := os.NewFile(uintptr(fd), "tcp")
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	tcp := c.(*net.TCPConn)
	if len(early) == 0 {
		return tcp, nil
	}
	return newEarlyConn(tcp, bytes.Clone(early)), nil
}

func addrOf(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
