package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A note keeps what is published.
type note struct {
	http.Handler
	mu    sync.Mutex
	lines []string
}

func (n *note) publish(b []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, string(b))
	return nil
}

func (n *note) close() error { return nil }

func TestObey(t *testing.T) {
	n := &note{}
	if err := obey(strings.NewReader("one\ntwo\n"), n); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(n.lines, ","); got != "one,two" {
		t.Errorf("published %s; want one,two", got)
	}
	if err := obey(bytes.NewReader(make([]byte, LineMax+1)), n); err == nil {
		t.Errorf("a line of more than %d bytes is taken", LineMax)
	}
}

// TestRun: a server says where it is, and ends when it is told to.
func TestRun(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "note", &note{Handler: http.NotFoundHandler()}, w) }()
	b := make([]byte, 200)
	n, err := r.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), "note listen=127.0.0.1:") || !strings.Contains(string(b[:n]), " control=127.0.0.1:") {
		t.Errorf("it says %q, %v", b[:n], err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestOpen(t *testing.T) {
	if _, err := open("smoke", options{}); err == nil || !strings.Contains(err.Error(), "floor") {
		t.Errorf("got error %v; want one that names those that there are", err)
	}
}

// TestNaive: everyone is told, and one whose channel is full is cut.
func TestNaive(t *testing.T) {
	s := &naive{clients: map[*naiveClient]struct{}{}}
	web := httptest.NewServer(s)
	defer web.Close()
	conn, early, _, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"))
	if err != nil {
		t.Fatal(err)
	}
	if early != nil {
		ws.PutReader(early)
	}
	await(t, "the client has joined", func() bool { return s.size() == 1 })
	s.tell([]byte("hello"))
	if got, err := wsutil.ReadServerText(conn); err != nil || string(got) != "hello" {
		t.Errorf("heard %q, %v; want hello", got, err)
	}

	ours, theirs := net.Pipe() // nobody reads it
	defer theirs.Close()
	slow := &naiveClient{conn: ours, deltas: make(chan []byte, naiveBacklog)}
	s.join(slow)
	for range naiveBacklog + 1 {
		s.tell([]byte("x"))
		if _, err := wsutil.ReadServerText(conn); err != nil {
			t.Fatal(err)
		}
	}
	if s.size() != 1 {
		t.Errorf("%d clients are left; want 1, for the other is cut", s.size())
	}
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("reading from the one that was cut: %v; want EOF", err)
	}
	conn.Close()
	await(t, "the client has left", func() bool { return s.size() == 0 })
	if err := s.publish(nil); err == nil {
		t.Error("it takes a delta from the control line")
	}
}

func (s *naive) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}
