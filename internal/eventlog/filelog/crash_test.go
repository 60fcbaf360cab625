package filelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A ledgerOfAcks is what a workload was told is so.
type ledgerOfAcks struct {
	mu    sync.Mutex
	logs  map[eventlog.Name]bool
	acked map[eventlog.Name]map[eventlog.Offset]string
	gone  map[eventlog.Name]eventlog.Offset // trimmed before here, or being so
}

func newAcks() *ledgerOfAcks {
	return &ledgerOfAcks{
		logs:  make(map[eventlog.Name]bool),
		acked: make(map[eventlog.Name]map[eventlog.Offset]string),
		gone:  make(map[eventlog.Name]eventlog.Offset),
	}
}

func (a *ledgerOfAcks) provisioned(log eventlog.Name) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.logs[log] = true
	a.acked[log] = make(map[eventlog.Offset]string)
}

func (a *ledgerOfAcks) ack(log eventlog.Name, o eventlog.Offset, body string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acked[log][o] = body
}

func (a *ledgerOfAcks) trimming(log eventlog.Name, before eventlog.Offset) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone[log] = before
}

func (a *ledgerOfAcks) clone() *ledgerOfAcks {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := newAcks()
	for log := range a.logs {
		c.logs[log] = true
		c.acked[log] = make(map[eventlog.Offset]string)
		for o, body := range a.acked[log] {
			c.acked[log][o] = body
		}
		c.gone[log] = a.gone[log]
	}
	return c
}

// crashOptions make a small store flush and rotate its files often.
func crashOptions(fs vfs.FS, fatal func(error)) Options {
	return Options{FS: fs, Fatal: fatal, memTableBytes: 32 << 10, RingBytesMax: 2 << 10}
}

// workload does all that a store can do, twice over, until it is done or
// something fails. Bodies tell their log and number, so that a torn one shows.
func workload(fs vfs.FS, acks *ledgerOfAcks, fatal func(error)) error {
	ctx := context.Background()
	for round := range 2 {
		s, err := Open("data/logs", crashOptions(fs, fatal))
		if err != nil {
			return err
		}
		if err := workloadRound(ctx, s, acks, round); err != nil {
			return errors.Join(err, s.Close())
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}

func workloadRound(ctx context.Context, s *Store, acks *ledgerOfAcks, round int) error {
	logs := []eventlog.Name{"s00", "s01", eventlog.Name(fmt.Sprintf("more%d", round))}
	for _, log := range logs {
		if err := s.Provision(ctx, eventlog.Spec{Name: log}); err != nil {
			return err
		}
		if !acks.clone().logs[log] {
			acks.provisioned(log)
		}
	}
	if err := s.Provision(ctx, eventlog.Spec{Name: "standings", Volatile: true}); err != nil {
		return err
	}
	v, err := s.Open(ctx, "standings")
	if err != nil {
		return err
	}
	errs := make([]error, len(logs))
	var wg sync.WaitGroup
	for i, log := range logs {
		wg.Go(func() { errs[i] = workloadLog(ctx, s, acks, log, round) })
	}
	for i := range 20 {
		if _, err := v.Append(ctx, fmt.Appendf(nil, "v%d", i), eventlog.Offset{}); err != nil {
			break
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

func workloadLog(ctx context.Context, s *Store, acks *ledgerOfAcks, log eventlog.Name, round int) error {
	for epoch := range 2 {
		w, err := s.Open(ctx, log)
		if err != nil {
			return err
		}
		acks.ack(log, w.Fence(), "")
		for i := range 6 {
			body := strings.Repeat(fmt.Sprintf("%s %d %d %d;", log, round, epoch, i), 1+60*(i%3))
			o, err := w.Append(ctx, []byte(body), eventlog.Offset{})
			if err != nil {
				return err
			}
			acks.ack(log, o, body)
		}
		if epoch == 1 && log == "s01" {
			before := eventlog.Offset{Epoch: w.Fence().Epoch, Seq: 3}
			acks.trimming(log, before)
			if err := s.Trim(ctx, log, before); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify opens what a crash left, and checks that all that was acknowledged is
// there and all that is there is whole, twice: reading it only, and for good.
func (a *ledgerOfAcks) verify(fs vfs.FS) error {
	if len(a.logs) > 0 {
		s, err := Open("data/logs", Options{FS: fs, ReadOnly: true})
		if err != nil {
			return fmt.Errorf("read-only: %w", err)
		}
		if err := errors.Join(a.verifyStore(s), s.Close()); err != nil {
			return fmt.Errorf("read-only: %w", err)
		}
	}
	var failed error
	s, err := Open("data/logs", crashOptions(fs, func(err error) { failed = err }))
	if err != nil {
		return err
	}
	if err := errors.Join(a.verifyStore(s), s.Close(), failed); err != nil {
		return err
	}
	if s, err = Open("data/logs", crashOptions(fs, nil)); err != nil { // and goes on from there
		return fmt.Errorf("opened once more: %w", err)
	}
	defer s.Close()
	for log := range a.logs {
		w, err := s.Open(context.Background(), log)
		if err != nil {
			return err
		}
		for o := range a.acked[log] {
			if !o.Less(w.Fence()) {
				return fmt.Errorf("log %s: epoch of %v begins again at %v", log, o, w.Fence())
			}
		}
		if _, err := w.Append(context.Background(), []byte("after"), eventlog.Offset{}); err != nil {
			return err
		}
	}
	return a.verifyStore(s)
}

func (a *ledgerOfAcks) verifyStore(s *Store) error {
	names, err := s.Logs(context.Background())
	if err != nil {
		return err
	}
	there := make(map[eventlog.Name]bool)
	for _, log := range names {
		there[log] = true
		recs, err := readAll(s, log)
		if err != nil {
			return err
		}
		for o, body := range a.acked[log] {
			if o.Less(a.gone[log]) {
				continue
			}
			if got, ok := recs[o]; !ok {
				return fmt.Errorf("log %s: record %v was acknowledged and is gone", log, o)
			} else if got != body {
				return fmt.Errorf("log %s: record %v has body %.40q, want %.40q", log, o, got, body)
			}
		}
		for o, body := range recs {
			if i := strings.IndexByte(body, ';'); i >= 0 && strings.HasPrefix(body, string(log)) && strings.ReplaceAll(body, body[:i+1], "") != "" {
				return fmt.Errorf("log %s: record %v is torn: %q", log, o, body)
			}
		}
	}
	for log := range a.logs {
		if !there[log] {
			return fmt.Errorf("log %s was provisioned and is gone", log)
		}
	}
	return nil
}

// readAll follows a log to its end and returns its bodies. The follower checks
// the chain; so it does here for what it reads from memory.
func readAll(s *Store, log eventlog.Name) (map[eventlog.Offset]string, error) {
	ctx := context.Background()
	st, err := s.Status(ctx, log)
	if err != nil {
		return nil, err
	}
	at := st.Base
	f, err := s.Follow(ctx, log, at)
	if err != nil {
		return nil, err
	}
	chain := f.(*follower).chain
	out := make(map[eventlog.Offset]string)
	for at.Less(st.Last) {
		recs, _, err := f.Next(ctx)
		if err != nil {
			return nil, err
		}
		for i := range recs {
			if err := checkNext(at, chain, &recs[i]); err != nil {
				return nil, fmt.Errorf("log %s: %w", log, err)
			}
			at, chain = recs[i].Offset, recs[i].Chain
			out[at] = string(bytes.Clone(recs[i].Body))
		}
	}
	if chain != st.Chain {
		return nil, fmt.Errorf("log %s: chain %x at its end, want %x", log, chain, st.Chain)
	}
	return out, nil
}

// runWorkload runs the workload until its end or until the store is dead.
func runWorkload(fs vfs.FS, acks *ledgerOfAcks) error {
	dead := make(chan error, 1)
	done := make(chan error, 1)
	fatal := func(err error) {
		select {
		case dead <- err:
		default:
		}
	}
	go func() { done <- workload(fs, acks, fatal) }()
	select {
	case err := <-dead:
		return err
	case err := <-done:
		return err
	}
}

// clones are the ways in which a disk may come back: with what was synced
// alone, with some of the rest, with all of it.
func clones(mem *vfs.MemFS, seed uint64) []*vfs.MemFS {
	rng := rand.New(rand.NewPCG(seed, 7))
	var out []*vfs.MemFS
	for _, percent := range []int{0, 50, 100} {
		out = append(out, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
	}
	return out
}

func isWrite(op errorfs.Op) bool {
	return op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && op.Kind != errorfs.OpLock
}

// stride is from one operation that is tried to the next: all are, unless tests
// are to be short. It has no divisor in common with the 3 disks.
func stride() int {
	if testing.Short() {
		return 4
	}
	return 1
}

// TestPowerCut cuts the power before each operation that writes, in turn.
func TestPowerCut(t *testing.T) {
	mem := vfs.NewCrashableMem()
	acks := newAcks()
	type cut struct {
		op   string
		acks *ledgerOfAcks
		fs   []*vfs.MemFS
	}
	var mu sync.Mutex
	var cuts []cut
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isWrite(op) {
			mu.Lock()
			defer mu.Unlock()
			known := acks.clone() // before the disk is copied: more may be acknowledged meanwhile
			cuts = append(cuts, cut{fmt.Sprintf("%v %s", op.Kind, op.Path), known, clones(mem, uint64(len(cuts)))})
		}
		return nil
	}))
	if err := runWorkload(fs, acks); err != nil {
		t.Fatal(err)
	}
	cuts = append(cuts, cut{"the end", acks, clones(mem, 0)})
	if len(cuts) < 200 {
		t.Errorf("%d operations that write: the workload does too little", len(cuts))
	}
	for i := 0; i < len(cuts); i += stride() {
		c := &cuts[i]
		for k, fs := range c.fs {
			if err := c.acks.verify(fs); err != nil {
				t.Errorf("cut before operation %d (%s), disk %d: %v", i, c.op, k, err)
			}
		}
	}
	t.Logf("%d cuts", len(cuts))
}

// TestFailedWrites fails each operation that writes, in turn: once, and from
// then on for ever.
func TestFailedWrites(t *testing.T) {
	for _, forEver := range []bool{false, true} {
		t.Run(fmt.Sprintf("for ever %v", forEver), func(t *testing.T) {
			failures := 0
			for i := 0; ; i += stride() {
				mem := vfs.NewCrashableMem()
				acks := newAcks()
				var n atomic.Int64
				var what atomic.Pointer[string]
				var over atomic.Bool
				fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
					if over.Load() {
						select {} // else Pebble tries what failed again and again
					}
					if !isWrite(op) {
						return nil
					}
					if k := int(n.Add(1)) - 1; k == i || forEver && k > i {
						s := fmt.Sprintf("%v %s", op.Kind, op.Path)
						what.CompareAndSwap(nil, &s)
						return errorfs.ErrInjected
					}
					return nil
				}))
				err := runWorkload(fs, acks)
				if what.Load() == nil { // all have had their turn
					if err != nil {
						t.Fatal(err)
					}
					break
				}
				if err != nil {
					failures++
				}
				over.Store(true)
				known := acks.clone()
				disk := i % 3 // in turn: all would take three times as long
				if err := known.verify(clones(mem, uint64(i))[disk]); err != nil {
					t.Errorf("operation %d (%s) failed, disk %d: %v", i, *what.Load(), disk, err)
				}
			}
			if failures == 0 {
				t.Error("no failure ever reached the store")
			}
			t.Logf("%d failures reached the store", failures)
		})
	}
}
