package balance

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve returns the address of a server that says its name, and then what it
// hears, line by line.
func serve(t *testing.T, name string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				fmt.Fprintln(c, name)
				_, _ = io.Copy(c, c) // the client ends it
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// A client is a connection through a balancer.
type client struct {
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, b *Balancer) *client {
	t.Helper()
	c, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &client{c, bufio.NewReader(c)}
}

// hears fails unless the next line is that.
func (c *client) hears(t *testing.T, want string) {
	t.Helper()
	got, err := c.in.ReadString('\n')
	if err != nil || got != want+"\n" {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

func listen(t *testing.T) *Balancer {
	b, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// await waits until the balancer has so many connections to a server.
func await(t *testing.T, b *Balancer, addr string, open int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		got, known := b.Counts().Open[addr]
		if got == open && known == (open > 0) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s has %d connections (known: %v), want %d", addr, got, known, open)
		}
	}
}

// TestFewest: whoever has fewest gets the next, one that is gone keeps what it
// has, and one that came late catches up.
func TestFewest(t *testing.T) {
	b := listen(t)
	one, two := serve(t, "one"), serve(t, "two")
	b.Set([]string{one})
	first := dial(t, b)
	first.hears(t, "one")
	dial(t, b).hears(t, "one")
	b.Set([]string{one, two})
	dial(t, b).hears(t, "two")
	dial(t, b).hears(t, "two")
	if c := b.Counts(); c.Open[one] != 2 || c.Open[two] != 2 || c.Accepted != 4 || c.Refused != 0 {
		t.Errorf("got %+v, want two of each", c)
	}
	b.Set([]string{two})
	dial(t, b).hears(t, "two")
	fmt.Fprintln(first, "still there")
	first.hears(t, "still there")
}

// TestEnds: the end of one side reaches the other, what was on its way first.
func TestEnds(t *testing.T) {
	b := listen(t)
	addr := serve(t, "one")
	b.Set([]string{addr})
	c := dial(t, b)
	c.hears(t, "one")
	await(t, b, addr, 1)
	b.Set(nil)
	fmt.Fprintln(c, "the last")
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.hears(t, "the last")
	if _, err := c.in.ReadByte(); err != io.EOF {
		t.Errorf("got %v, want the server's end", err)
	}
	await(t, b, addr, 0)
}

// TestRefused: without a server that takes it, a connection is reset and
// counted.
func TestRefused(t *testing.T) {
	b := listen(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	for i, servers := range [][]string{nil, {ln.Addr().String()}} {
		b.Set(servers)
		if c, err := net.Dial("tcp", b.Addr()); err == nil { // else it was reset already
			if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
				t.Errorf("with %v somebody said %q", servers, line)
			}
			c.Close()
		}
		for end := time.Now().Add(time.Minute); b.Counts().Refused != int64(i+1); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("with %v: %+v, want %d refused", servers, b.Counts(), i+1)
			}
		}
	}
}

// TestClose ends all that is open.
func TestClose(t *testing.T) {
	b := listen(t)
	b.Set([]string{serve(t, "one")})
	c := dial(t, b)
	c.hears(t, "one")
	b.Close()
	if _, err := c.in.ReadByte(); err == nil {
		t.Error("the connection outlives its balancer")
	}
}
