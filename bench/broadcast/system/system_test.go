//go:build linux

package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/goleak"

	"github.com/veltrix/cairn/bench/broadcast/peers"
	"github.com/veltrix/cairn/internal/lab"
)

// TestMain is a peer as well, when it is told so.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "peer" {
		if err := peers.Main(os.Args[2], os.Args[3:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func newKit(t *testing.T, opts lab.Options) *Kit {
	t.Helper()
	l, err := lab.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Kit{Lab: l, Self: self}
}

func TestDeltaBytes(t *testing.T) {
	if got := len(delta(41, time.Now())); got != DeltaBytes {
		t.Errorf("a delta of the peers has %d bytes; want %d", got, DeltaBytes)
	}
}

// hears connects to a system's first server, says the hellos and publishes
// until a delta comes, which it returns.
func hears(t *testing.T, s *System, path, protocol string, hellos ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d := ws.Dialer{}
	if protocol != "" {
		d.Protocols = []string{protocol}
	}
	conn, early, _, err := d.Dial(ctx, "ws://"+s.Targets[0]+path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if early != nil {
		defer ws.PutReader(early)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	for _, h := range hellos {
		if err := wsutil.WriteClientText(conn, []byte(h)); err != nil {
			t.Fatal(err)
		}
	}
	heard := make(chan string, 1)
	go func() {
		for {
			text, err := wsutil.ReadServerText(conn)
			if err != nil || strings.Contains(string(text), `"type":"delta"`) && strings.Contains(string(text), `"at":"2`) {
				heard <- string(text)
				return
			}
		}
	}()
	for {
		if err := s.Publish(ctx); err != nil {
			t.Fatal(err)
		}
		select {
		case text := <-heard:
			if text == "" {
				t.Fatal("the connection ended before a delta came")
			}
			return text
		// It may not have been heard when there was nobody. Two claims sooner
		// would often share a delta, for a quiet log is not read at once.
		case <-time.After(time.Second):
		}
	}
}

func TestPeers(t *testing.T) {
	k := newKit(t, lab.Options{})
	for _, c := range []struct {
		spec   Spec
		path   string
		hellos []string
	}{
		{Spec{Kind: Floor, Servers: 2}, "/", nil},
		{Spec{Kind: Centrifuge}, "/", []string{`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"deltas"}}`}},
		{Spec{Kind: Centrifuge, WriteDelay: 5 * time.Millisecond}, "/", []string{`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"deltas"}}`}},
	} {
		s, err := k.Start(t.Context(), c.spec)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(s.Servers()), max(1, c.spec.Servers); got != want || len(s.Targets) != want {
			t.Errorf("%+v: %d processes and %d targets; want %d", c.spec, got, len(s.Targets), want)
		}
		got := hears(t, s, c.path, "", c.hellos...)
		if i := strings.Index(got, `{"type":"delta"`); i < 0 || len(got) < i+DeltaBytes {
			t.Errorf("%+v: heard %s; want a delta of %d bytes", c.spec, got, DeltaBytes)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// buildCairn builds the command from the source around this module.
func buildCairn(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "cairn")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "../../..", "-o", bin, "./cmd/cairn").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// TestOurs: a real gateway tells of what is published, in deltas as long as
// those of the peers, over more than one map.
func TestOurs(t *testing.T) {
	k := newKit(t, lab.Options{Bin: buildCairn(t)})
	s, err := k.Start(t.Context(), Spec{Kind: Ours, Shards: 3, Sweep: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for range 5 { // one may be of two claims, or of a map that opens
		got := hears(t, s, "/v1/live", "cairn.v1.json", `{"type":"hello"}`, `{"type":"watch","hunt":"bench","regions":["u4xs"]}`)
		if strings.Contains(got, `"opened":[]`) && strings.Contains(got, `"closed":[]`) && strings.Count(got, `"at":`) == 1 {
			if d := len(got) - DeltaBytes; d < -8 || d > 8 {
				t.Errorf("a delta has %d bytes; want about %d: %s", len(got), DeltaBytes, got)
			}
			return
		}
	}
	t.Error("no delta of one claim came")
}
