package crowd

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/goleak"
)

// workerEnv has the test binary be a worker process.
const workerEnv = "CROWD_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		if err := Work(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Setenv(workerEnv, "1") // for those that tests start
	goleak.VerifyTestMain(m)
}

// eachLink runs a test on this system's link, and on the portable one.
func eachLink(t *testing.T, test func(t *testing.T, portable bool)) {
	t.Run("native", func(t *testing.T) { test(t, false) })
	t.Run("portable", func(t *testing.T) { test(t, true) })
}

// A fake is a server that says what a test has it say.
type fake struct {
	t    testing.TB
	ln   net.Listener
	addr string

	script script

	mu     sync.Mutex
	conns  []net.Conn
	shakes int
}

// A script is how a fake behaves; what is nil it leaves out.
type script struct {
	head  func(n int) string // the answer to the nth handshake, instead of an upgrade; "" upgrades
	speak func(c net.Conn)   // after the handshake
	hear  func(c net.Conn, message string)
}

func newFake(t testing.TB, x script) *fake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, ln: ln, addr: ln.Addr().String(), script: x}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			c.Close()
		}
		f.mu.Unlock()
		all.Wait()
	})
	return f
}

func (f *fake) serve(c net.Conn) {
	defer c.Close()
	f.mu.Lock()
	f.shakes++
	n := f.shakes
	f.mu.Unlock()
	if f.script.head != nil {
		if text := f.script.head(n); text != "" {
			fmt.Fprint(c, text)
			return
		}
	}
	if !f.upgrade(c) {
		return
	}
	if f.script.speak != nil {
		f.script.speak(c)
	}
	for {
		b, op, err := wsutil.ReadClientData(c)
		if err != nil {
			return
		}
		if f.script.hear != nil && op == ws.OpText {
			f.script.hear(c, string(b))
		}
	}
}

// upgrade counts a client in before it can know that it is connected.
func (f *fake) upgrade(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = append(f.conns, c)
	_, err := (ws.Upgrader{Protocol: func([]byte) bool { return true }}).Upgrade(c)
	return err == nil
}

// say sends everyone a text message, in as many writes as there are parts of
// the frame.
func (f *fake) say(text string, parts int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	frame := ws.MustCompileFrame(ws.NewTextFrame([]byte(text)))
	for i := range parts {
		for _, c := range f.conns {
			_, _ = c.Write(frame[len(frame)*i/parts : len(frame)*(i+1)/parts])
		}
		if i < parts-1 {
			time.Sleep(2 * time.Millisecond) // so that parts arrive as such, mostly
		}
	}
}

// stamped returns a publication of now.
func stamped(from, seq int) string {
	return fmt.Sprintf(`{"type":"delta","from":%d,"seq":%d,"claimed":[{"at":"%s"}]}`, from, seq, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
}

// A tester is a crowd that a test grows and reads.
type tester struct {
	*Crowd
	t   testing.TB
	sum *Stats
}

func open(t testing.TB, o Options) *tester {
	t.Helper()
	c, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &tester{c, t, NewStats()}
}

func (c *tester) grow(n int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	if err := c.Grow(ctx, n, 0); err != nil {
		c.t.Fatal(err)
	}
}

// until reads the crowd until what was seen since the test began is enough.
func (c *tester) until(what string, enough func(s *Stats) bool) *Stats {
	c.t.Helper()
	for over := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		s, err := c.Window(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		c.sum.Add(s)
		if enough(c.sum) {
			return c.sum
		}
		if time.Now().After(over) {
			c.t.Fatalf("waited too long until %s: %+v%s", what, c.sum, c.describe())
		}
	}
}
