package filelog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A gate holds or fails the syncs of write-ahead logs.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // syncs wait until it is closed; nil: they pass
	fail atomic.Bool

	waiting atomic.Int64 // syncs that came to a shut gate
}

func (g *gate) close() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	shut := make(chan struct{})
	g.shut = shut
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.shut = nil
		close(shut)
	})
}

func (g *gate) MaybeError(op errorfs.Op) error {
	isSync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
	if !isSync || !strings.HasSuffix(op.Path, ".log") {
		return nil
	}
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		g.waiting.Add(1)
		<-shut
	}
	if g.fail.Load() {
		return errorfs.ErrInjected
	}
	return nil
}

// wait waits until a sync came to the gate, which is shut.
func (g *gate) wait(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); g.waiting.Load() == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("no sync began")
		}
	}
}

func (g *gate) String() string { return "gate" }

func gated(t *testing.T, fatal func(error)) (*Store, *gate) {
	t.Helper()
	g := &gate{}
	s := mustOpen(t, "logs", Options{FS: errorfs.Wrap(vfs.NewMem(), g), Fatal: fatal})
	if err := s.Provision(context.Background(), eventlog.Spec{Name: "s00"}, eventlog.Spec{Name: "s01"}); err != nil {
		t.Fatal(err)
	}
	return s, g
}

// TestUnknown: an append whose context ends while its sync is under way is
// unknown and ends its writer; whoever takes over sees it decided.
func TestUnknown(t *testing.T) {
	s, g := gated(t, nil)
	defer s.Close()
	bg := context.Background()
	w, err := s.Open(bg, "s00")
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Follow(bg, "s00", w.Fence())
	if err != nil {
		t.Fatal(err)
	}
	open := g.close()
	ctx, cancel := context.WithCancel(bg)
	appended := make(chan error)
	go func() {
		_, err := w.Append(ctx, []byte("slow"), eventlog.Offset{})
		appended <- err
	}()
	g.wait(t)
	select {
	case err := <-appended:
		t.Fatalf("Append returned before its sync: %v", err)
	default:
	}
	cancel()
	if err := <-appended; !errors.Is(err, eventlog.ErrUnknown) {
		t.Fatalf("Append: %v, want ErrUnknown", err)
	}
	// A new writer can't come in before the outcome is known.
	short, cancel2 := context.WithCancel(bg)
	opened := make(chan error)
	go func() {
		_, err := s.Open(short, "s00")
		opened <- err
	}()
	cancel2()
	if err := <-opened; err == nil {
		t.Fatal("a fence landed though no sync did")
	}
	open()
	next, err := s.Open(bg, "s00")
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for at := w.Fence(); at.Less(next.Fence()); {
		recs, _, err := f.Next(bg)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			at = r.Offset
			if r.Kind == eventlog.Data {
				bodies = append(bodies, string(r.Body))
			}
		}
	}
	if len(bodies) != 1 || bodies[0] != "slow" {
		t.Errorf("the log has %q, want the append that was unknown", bodies)
	}
}

// TestGroupCommit: appends to other logs share the syncs, and none is
// acknowledged before one.
func TestGroupCommit(t *testing.T) {
	s, g := gated(t, nil)
	defer s.Close()
	ctx := context.Background()
	const logs = 32
	var writers []eventlog.Writer
	for i := range logs {
		name := eventlog.Name(fmt.Sprintf("g%d", i))
		if err := s.Provision(ctx, eventlog.Spec{Name: name}); err != nil {
			t.Fatal(err)
		}
		w, err := s.Open(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	before := syncCount(t, s)
	open := g.close()
	var acked atomic.Int64
	var wg sync.WaitGroup
	for _, w := range writers {
		wg.Go(func() {
			if _, err := w.Append(ctx, []byte("x"), eventlog.Offset{}); err != nil {
				t.Error(err)
			}
			acked.Add(1)
		})
	}
	// Pebble shows a record before it is synced: once all can be seen, all that
	// stands between them and their callers is the sync that waits.
	for _, w := range writers {
		var r eventlog.Record
		o := w.Fence()
		o.Seq++
		for deadline := time.Now().Add(10 * time.Second); readRecord(s.db, w.(*writer).l.name, o, &r) != nil; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("record %v was not written", o)
			}
		}
	}
	g.wait(t)
	if n := acked.Load(); n != 0 {
		t.Errorf("%d appends were acknowledged without a sync", n)
	}
	open()
	wg.Wait()
	if n := syncCount(t, s) - before; n > 3 {
		t.Errorf("%d syncs for %d appends that waited together, want at most 3", n, logs)
	}
}

func syncCount(t testing.TB, s *Store) uint64 {
	t.Helper()
	var m dto.Metric
	if err := s.db.Metrics().LogWriter.FsyncLatency.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Histogram.GetSampleCount()
}

// TestFailedSync: an append whose sync fails is never acknowledged, nor is any
// other from then on, and whoever runs the process is told, once.
func TestFailedSync(t *testing.T) {
	var fatals atomic.Int64
	told := make(chan error, 1)
	s, g := gated(t, func(err error) {
		if fatals.Add(1) == 1 {
			told <- err
		}
	})
	ctx := context.Background()
	var writers []eventlog.Writer
	for _, log := range []eventlog.Name{"s00", "s01"} {
		w, err := s.Open(ctx, log)
		if err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	f, err := s.Follow(ctx, "s00", writers[0].Fence())
	if err != nil {
		t.Fatal(err)
	}
	g.fail.Store(true)
	if _, err := writers[0].Append(ctx, []byte("lost"), eventlog.Offset{}); !errors.Is(err, eventlog.ErrUnknown) {
		t.Errorf("Append: %v, want ErrUnknown", err)
	}
	if err := <-told; !errors.Is(err, errorfs.ErrInjected) {
		t.Errorf("Fatal was told %v", err)
	}
	g.fail.Store(false) // the disk works again; the store does not
	for i, w := range writers {
		if _, err := w.Append(ctx, []byte("after"), eventlog.Offset{}); !errors.Is(err, eventlog.ErrUnknown) {
			t.Errorf("Append of writer %d after the failure: %v, want ErrUnknown", i, err)
		}
	}
	if _, err := s.Open(ctx, "s01"); err == nil {
		t.Error("Open after the failure: no error")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if recs, _, err := f.Next(ended); err == nil {
		t.Errorf("a follower saw %d records that were never acknowledged", len(recs))
	}
	if err := s.Close(); !errors.Is(err, errorfs.ErrInjected) {
		t.Errorf("Close: %v, want what failed", err)
	}
	if n := fatals.Load(); n != 1 {
		t.Errorf("Fatal was called %d times, want 1", n)
	}
}

// TestMetrics: what a store says of itself, under the names it promises.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := mustOpen(t, t.TempDir(), Options{Metrics: reg})
	ctx := context.Background()
	if err := s.Provision(ctx, eventlog.Spec{Name: "s00"}); err != nil {
		t.Fatal(err)
	}
	w, err := s.Open(ctx, "s00")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := w.Append(ctx, []byte("12345678"), eventlog.Offset{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readAll(s, "s00"); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += "/" + l.GetValue()
			}
			if m.Histogram != nil {
				got[name] = float64(m.Histogram.GetSampleCount())
				if m.Histogram.GetSampleCount() > 0 && m.Histogram.GetSampleSum() > 60*float64(m.Histogram.GetSampleCount()) {
					t.Errorf("%s: %v seconds each: a wrong unit", name, m.Histogram.GetSampleSum())
				}
			} else {
				got[name] = m.Counter.GetValue()
			}
		}
	}
	if got["cairn_append_duration_seconds/durable"] != 5 || got["cairn_append_bytes_total"] != 40 ||
		got["cairn_follow_records_total/ring"] != 7 || got["cairn_log_sync_duration_seconds"] < 6 {
		t.Errorf("metrics %v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if families, err := reg.Gather(); err != nil || len(families) != 0 {
		t.Errorf("after Close: %d families, %v", len(families), err)
	}
}
