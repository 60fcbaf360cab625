package server

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/veltrix/cairn/internal/broadcast"
)

func closing(t *testing.T, lns []net.Listener) []net.Listener {
	t.Cleanup(func() {
		for _, ln := range lns {
			ln.Close()
		}
	})
	return lns
}

// TestListenAlone wants a port that nobody asked to share to be one process's
// own, however many listeners it has there, and whoever comes second.
func TestListenAlone(t *testing.T) {
	ctx := context.Background()
	lns, err := Listen(ctx, "127.0.0.1:0", ListenOptions{N: 3})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, lns)
	addr := lns[0].Addr().String()
	for _, ln := range lns {
		if len(lns) != 3 || ln.Addr().String() != addr {
			t.Errorf("one of %d listeners is on %v, want 3 on %s", len(lns), ln.Addr(), addr)
		}
	}
	if _, err := Listen(ctx, addr, ListenOptions{N: 3}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the second to listen got %v, want EADDRINUSE", err)
	}
	if _, err := net.Listen("tcp", addr); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("another program got %v, want EADDRINUSE", err)
	}
	for _, ln := range lns {
		ln.Close()
	}
	if again, err := Listen(ctx, addr, ListenOptions{}); err != nil {
		t.Errorf("once the port is free: %v", err)
	} else {
		closing(t, again)
	}
}

// TestListenShared wants a port to be shared by those who both ask for it, and
// by nobody who does not.
func TestListenShared(t *testing.T) {
	ctx := context.Background()
	lns, err := Listen(ctx, "127.0.0.1:0", ListenOptions{N: 2, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, lns)
	addr := lns[0].Addr().String()
	more, err := Listen(ctx, addr, ListenOptions{N: 2, Shared: true})
	if err != nil {
		t.Fatalf("the second to share: %v", err)
	}
	closing(t, more)
	if _, err := Listen(ctx, addr, ListenOptions{N: 2}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("one who does not share got %v, want EADDRINUSE", err)
	}
	// Connections are spread: over many, each listener gets some.
	var accepting sync.WaitGroup
	got := make(chan int, 400)
	for i, ln := range append(lns, more...) {
		accepting.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				c.Close()
				got <- i
			}
		})
	}
	seen := map[int]int{}
	for range 400 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("x")) // or it is not accepted before a second has passed
		seen[<-got]++
		c.Close()
	}
	for _, ln := range append(lns, more...) {
		ln.Close()
	}
	accepting.Wait()
	if len(seen) != 4 {
		t.Errorf("400 connections went to %v, want some to each of 4 listeners", seen)
	}
}

// An optionHub notes the options of the sockets that it is given.
type optionHub struct {
	hub
	noDelay, sendBuffer chan int
}

func (h *optionHub) Adopt(fd int, early []byte, codec broadcast.Codec, e broadcast.Edge) error {
	for to, opt := range map[chan int][2]int{h.noDelay: {unix.IPPROTO_TCP, unix.TCP_NODELAY}, h.sendBuffer: {unix.SOL_SOCKET, unix.SO_SNDBUF}} {
		v, err := unix.GetsockoptInt(fd, opt[0], opt[1])
		if err != nil {
			return err
		}
		to <- v
	}
	return h.hub.Adopt(fd, early, codec, e)
}

// TestSocketsInherit looks at the sockets that the listeners' options are for.
func TestSocketsInherit(t *testing.T) {
	g := newGame(t, nil)
	to := &optionHub{g.rooms.Hub, make(chan int, 1), make(chan int, 1)}
	addr := g.serveFront(func(ln net.Listener) net.Listener { return g.server.front(ln, to) })
	ask(t, addr, fastShakes["plain"], false)
	if got := <-to.noDelay; got == 0 {
		t.Errorf("TCP_NODELAY is %d, want it set", got)
	}
	if got := <-to.sendBuffer; got != 2*sendBufferBytes {
		t.Errorf("SO_SNDBUF is %d, want %d: what was set, twice", got, 2*sendBufferBytes)
	}
}

// TestOrdinaryGrows wants the bound to be off what net/http answers.
func TestOrdinaryGrows(t *testing.T) {
	lns, err := Listen(context.Background(), "127.0.0.1:0", ListenOptions{N: 1})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, lns)
	client, err := net.Dial("tcp", lns[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	client.Write([]byte("x"))
	server, err := lns[0].Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	raw, err := server.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	if err := withSocket(raw, func(own int) (err error) {
		fd, err = unix.Dup(own)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c, err := ordinary(fd, []byte("early"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err = c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := withSocket(raw, func(own int) error {
		lock, err := unix.GetsockoptInt(own, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
		if err == nil && lock != 0 {
			t.Errorf("SO_BUF_LOCK is %d, want 0", lock)
		}
		return nil // before Linux 5.14 there is none
	}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	for _, want := range []string{"ear", "ly", "x"} {
		if n, err := c.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("read %q, %v, want %q", b[:n], err, want)
		}
	}
}
