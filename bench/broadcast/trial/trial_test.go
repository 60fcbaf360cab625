//go:build linux

package trial

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/veltrix/cairn/bench/broadcast/peers"
	"github.com/veltrix/cairn/bench/broadcast/system"
	"github.com/veltrix/cairn/internal/lab"
	"github.com/veltrix/cairn/internal/load/crowd"
)

// TestMain is a peer and a process of the load generator as well, when it is
// told so.
func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) > 2 && os.Args[1] == "peer":
		err = peers.Main(os.Args[2], os.Args[3:], os.Stdout)
	case len(os.Args) > 1 && os.Args[1] == "watch":
		err = crowd.Work(os.Stdin, os.Stdout)
	default:
		goleak.VerifyTestMain(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func begin(t *testing.T, labOpts lab.Options, spec system.Spec, opts Options) *Trial {
	t.Helper()
	l, err := lab.New(labOpts)
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
	x, err := Begin(t.Context(), &system.Kit{Lab: l, Self: self}, spec, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.End(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// TestPeers: all that is published reaches everyone, and is counted.
func TestPeers(t *testing.T) {
	const n = 20
	for _, spec := range []system.Spec{
		{Kind: system.Floor, Servers: 2},
		{Kind: system.Centrifuge},
		{Kind: system.Centrifuge, WriteDelay: 5 * time.Millisecond},
	} {
		x := begin(t, lab.Options{}, spec, Options{})
		g, err := x.Grow(t.Context(), n, 0, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if g.Connections != n || g.RampSeconds <= 0 || g.CPUEach <= 0 {
			t.Errorf("%+v: grew as %+v; want %d connections, in some time, at some cost", spec, g, n)
		}
		l, err := x.Load(t.Context(), 20, 500*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if l.Published != 10 || l.Deliveries != 10*n || l.Gaps != 0 || l.Lost != 0 || l.Behind != 0 {
			t.Errorf("%+v: %d published, %d deliveries, %d gaps, %d lost, %d behind; want 10 and %d, and nothing else", spec, l.Published, l.Deliveries, l.Gaps, l.Lost, l.Behind, 10*n)
		}
		if l.P50 <= 0 || l.P99Median <= 0 || l.P99 < l.P50 || l.Max < l.P99 || l.CPUEach <= 0 || l.Bytes < system.DeltaBytes {
			t.Errorf("%+v: got %+v; want times, CPU and at least %d bytes a delivery", spec, l, system.DeltaBytes)
		}
	}
}

// TestOurs: a surge, stalled readers and a cut, on real gateways: nobody misses
// anything.
func TestOurs(t *testing.T) {
	const n, more, slow = 30, 10, 3
	bin := filepath.Join(t.TempDir(), "cairn")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "../../..", "-o", bin, "./cmd/cairn").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	x := begin(t, lab.Options{Bin: bin}, system.Spec{Kind: system.Ours, Servers: 2, Shards: 2, Sweep: 5 * time.Millisecond}, Options{Stalled: 0.1})
	if _, err := x.Grow(t.Context(), n, 0, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	stale, err := x.WatchStaleness(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// More than a map has tiles.
	l, err := x.Surge(t.Context(), 50, time.Second, more)
	if err != nil {
		t.Fatal(err)
	}
	if l.Published != 50 || l.Deliveries == 0 || l.Connections != n+more || l.Gaps != 0 || l.Behind != 0 {
		t.Errorf("a surge: %d published, %d deliveries to %d connections, %d gaps, %d behind; want 50, some, %d, 0, 0", l.Published, l.Deliveries, l.Connections, l.Gaps, l.Behind, n+more)
	}
	s, err := stale(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Sweeps == 0 || s.P50 <= 0 || s.P99 < s.P50 {
		t.Errorf("staleness is %+v; want some", s)
	}
	if prof, err := x.Profile(t.Context(), 5, time.Second); err != nil || len(prof) == 0 {
		t.Errorf("a profile of %d bytes, %v; want some", len(prof), err)
	}
	if err := x.System.SetSweep(t.Context(), 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if l, err = x.Stalled(t.Context(), 20, 500*time.Millisecond, slow); err != nil {
		t.Fatal(err)
	}
	if l.Gaps != 0 || l.Behind != 0 || l.SweepMS != 10 {
		t.Errorf("with stalled readers: %+v; want no gaps and nobody behind, at a sweep of 10 ms", l)
	}
	b, err := x.DropAll(t.Context(), 20, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if b.Reconnects < n+more || b.Gaps != 0 || b.Behind != 0 || b.States != 1 || b.All < b.Half || b.Faults != nil {
		t.Errorf("after a cut: %+v; want %d or more back, without a gap, who know the same", b, n+more)
	}
}

func TestKeeps(t *testing.T) {
	good := Load{Published: 10, Connections: 2, Deliveries: 20, P99: 900, P50First: 100, P50Second: 190}
	if why := good.keeps(false); why != "" {
		t.Errorf("a good load does not keep up: %s", why)
	}
	for name, spoil := range map[string]func(*Load){
		"cut":    func(l *Load) { l.Lost = 1 },
		"gap":    func(l *Load) { l.Gaps = 1 },
		"lost":   func(l *Load) { l.Deliveries-- },
		"late":   func(l *Load) { l.P99 = 1001 },
		"slower": func(l *Load) { l.P50Second = 201 },
		"held":   func(l *Load) { l.LateMS = 1001 },
	} {
		l := good
		spoil(&l)
		if l.keeps(false) == "" {
			t.Errorf("%s: it keeps up", name)
		}
	}
	// Ours may tell of several deltas at once, or skip, but leaves nobody behind.
	l := good
	l.Deliveries = 7
	if why := l.keeps(true); why != "" {
		t.Errorf("fewer messages than deltas: %s", why)
	}
	if l.Behind = 1; l.keeps(true) == "" {
		t.Error("one is behind, and it keeps up")
	}
}

func TestQuantile(t *testing.T) {
	h := map[float64]uint64{0.1: 50, 0.2: 99, 0.3: 100, math.Inf(1): 100}
	for q, want := range map[float64]float64{0.5: 0.1, 0.51: 0.2, 0.99: 0.2, 1: 0.3} {
		if got := quantile(h, q); got != want {
			t.Errorf("quantile %v is %v; want %v", q, got, want)
		}
	}
	if got := quantile(map[float64]uint64{0.1: 0, math.Inf(1): 4}, 0.5); got != 0.1 {
		t.Errorf("beyond all buckets it is %v; want the last bound", got)
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("of nothing it is %v; want 0", got)
	}
}

func TestMedianOf(t *testing.T) {
	p99 := func(p Part) float64 { return p.P99 }
	for _, c := range []struct {
		parts []Part
		want  float64
	}{
		{nil, 0},
		{[]Part{{P99: 5}}, 5},
		{[]Part{{P99: 5}, {P99: 900}, {P99: 6}}, 6},
		{[]Part{{P99: 900}, {P99: 5}, {P99: 7}, {P99: 4}}, 6},
	} {
		if got := medianOf(c.parts, p99); got != c.want {
			t.Errorf("of %v: got %v, want %v", c.parts, got, c.want)
		}
	}
}
