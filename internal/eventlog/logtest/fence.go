package logtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/veltrix/cairn/internal/eventlog"
)

var fenceCases = []testCase{
	{"the first writer begins epoch 1", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		if want := (eventlog.Offset{Epoch: 1}); w.Fence() != want {
			t.Errorf("fence %v, want %v", w.Fence(), want)
		}
		recs := e.read(t, log0, eventlog.GenesisOffset)
		if recs[0].Kind != eventlog.Fence || recs[0].Offset != w.Fence() {
			t.Errorf("record %+v, want the fence", recs[0])
		}
	}},
	{"every writer begins the next epoch", func(t *testing.T, e *env) {
		for epoch := uint64(1); epoch <= 5; epoch++ {
			if w := e.open(t, log0); w.Fence() != (eventlog.Offset{Epoch: epoch}) {
				t.Errorf("fence %v, want epoch %d", w.Fence(), epoch)
			}
		}
	}},
	{"an old writer is fenced out", func(t *testing.T, e *env) {
		old := e.open(t, log0)
		e.append(t, old, 2)
		e.open(t, log0)
		for range 2 { // and stays so
			_, err := old.Append(e.ctx, []byte("late"), eventlog.Offset{})
			wantErr(t, "Append", err, eventlog.ErrFenced)
		}
		if n := len(data(e.read(t, log0, eventlog.Offset{}))); n != 2 {
			t.Errorf("%d data records, want 2", n)
		}
	}},
	{"an old writer that never wrote is fenced out", func(t *testing.T, e *env) {
		old := e.open(t, log0)
		w := e.open(t, log0)
		_, err := old.Append(e.ctx, []byte("late"), eventlog.Offset{})
		wantErr(t, "Append", err, eventlog.ErrFenced)
		e.append(t, w, 1)
	}},
	{"every writer before is fenced out", func(t *testing.T, e *env) {
		var old []eventlog.Writer
		for range 4 {
			old = append(old, e.open(t, log0))
		}
		for i, w := range old[:3] {
			_, err := w.Append(e.ctx, nil, eventlog.Offset{})
			wantErr(t, fmt.Sprintf("Append by writer %d", i), err, eventlog.ErrFenced)
		}
		e.append(t, old[3], 1)
	}},
	{"a fence of one log is none of another", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		e.open(t, volatile)
		e.append(t, w, 1)
	}},
	{"closing an old writer leaves the new one alone", func(t *testing.T, e *env) {
		old := e.open(t, log0)
		w := e.open(t, log0)
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		e.append(t, w, 1)
	}},
	{"no epoch begins twice over reopens", func(t *testing.T, e *env) {
		for _, log := range []eventlog.Name{log0, volatile} {
			var last uint64
			for range 4 {
				w := e.open(t, log)
				if w.Fence().Epoch <= last {
					t.Errorf("log %s: epoch %d after %d", log, w.Fence().Epoch, last)
				}
				last = w.Fence().Epoch
				e.append(t, w, 1)
				e.reopen(t)
			}
		}
	}},
	{"no epoch begins twice where nothing was appended", func(t *testing.T, e *env) {
		for want := uint64(1); want <= 3; want++ {
			if w := e.open(t, volatile); w.Fence().Epoch != want {
				t.Errorf("epoch %d, want %d", w.Fence().Epoch, want)
			}
			e.reopen(t)
		}
	}},
	{"a writer takes over the from of the last record", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		if !w.From().IsZero() {
			t.Errorf("From %v of the first writer, want zero", w.From())
		}
		from := eventlog.Offset{Epoch: 1, Seq: 4}
		for i := range uint64(6) {
			if _, err := w.Append(e.ctx, nil, eventlog.Offset{Epoch: 1, Seq: min(i, 4)}); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 { // over fences that nothing was written behind, too
			if w = e.open(t, log0); w.From() != from {
				t.Errorf("From %v, want %v", w.From(), from)
			}
			e.reopen(t)
		}
		recs := e.read(t, log0, from.Before())
		if recs[0].Offset != from {
			t.Errorf("following from %v.Before() begins at %v", from, recs[0].Offset)
		}
		for _, r := range recs {
			if r.Kind == eventlog.Fence && r.From != from {
				t.Errorf("fence %v: From %v, want %v", r.Offset, r.From, from)
			}
		}
	}},
	{"what was acknowledged can be read when the fence is there", func(t *testing.T, e *env) {
		// Writers race: each opens, appends until it is fenced, and must find
		// in the log, before its fence, all that was acknowledged before.
		const writers, rounds = 4, 12
		var mu sync.Mutex
		var acked []eventlog.Offset
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range rounds {
					mu.Lock()
					before := slices.Clone(acked)
					mu.Unlock()
					w, err := e.s.Open(e.ctx, log0)
					if err != nil {
						t.Errorf("Open: %v", err)
						return
					}
					for _, o := range before {
						if !o.Less(w.Fence()) {
							t.Errorf("%v was acknowledged before the fence %v", o, w.Fence())
						}
					}
					for range 5 {
						o, err := w.Append(e.ctx, []byte(fmt.Sprint(w.Fence())), eventlog.Offset{})
						if errors.Is(err, eventlog.ErrFenced) {
							break
						}
						if err != nil {
							t.Errorf("Append: %v", err)
							return
						}
						mu.Lock()
						acked = append(acked, o)
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		recs := data(e.read(t, log0, eventlog.Offset{}))
		if len(recs) != len(acked) {
			t.Errorf("%d data records, want the %d acknowledged", len(recs), len(acked))
		}
		slices.SortFunc(acked, eventlog.Offset.Compare)
		for i, r := range recs {
			if i < len(acked) && r.Offset != acked[i] {
				t.Fatalf("record %v, acknowledged %v", r.Offset, acked[i])
			}
			if want := fmt.Sprint(eventlog.Offset{Epoch: r.Offset.Epoch}); string(r.Body) != want {
				t.Errorf("record %v was written by the writer of %s", r.Offset, r.Body)
			}
		}
	}},
	{"nothing of an old writer lands behind a fence", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(stop)
			for {
				if _, err := w.Append(e.ctx, []byte("old"), eventlog.Offset{}); err != nil {
					wantErr(t, "Append", err, eventlog.ErrFenced)
					return
				}
			}
		})
		f := e.follow(t, log0, w.Fence())
		if _, _, err := f.Next(e.ctx); err != nil { // it is at work
			t.Fatal(err)
		}
		next := e.open(t, log0)
		at := e.status(t, log0).Last
		<-stop
		wg.Wait()
		if at.Epoch != next.Fence().Epoch {
			t.Errorf("log ends at %v, want the epoch of %v", at, next.Fence())
		}
		if recs := data(e.read(t, log0, next.Fence())); len(recs) != 0 {
			t.Errorf("%d records behind the fence, want none", len(recs))
		}
	}},
}

// secondCases are run where two processes may have the logs open.
var secondCases = []testCase{
	{"a writer of another store fences", func(t *testing.T, e *env) {
		other := e.b.Second(t)
		defer other.Close()
		old := e.open(t, log0)
		e.append(t, old, 2)
		w, err := other.Open(e.ctx, log0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = old.Append(e.ctx, []byte("late"), eventlog.Offset{})
		wantErr(t, "Append", err, eventlog.ErrFenced)
		e.append(t, w, 2)
		if n := len(data(e.read(t, log0, eventlog.Offset{}))); n != 4 {
			t.Errorf("%d data records, want 4", n)
		}
	}},
	{"a follower of another store is woken", func(t *testing.T, e *env) {
		other := e.b.Second(t)
		defer other.Close()
		f, err := other.Follow(e.ctx, log0, eventlog.GenesisOffset)
		if err != nil {
			t.Fatal(err)
		}
		o := e.append(t, e.open(t, log0), 1)[0]
		for at := eventlog.GenesisOffset; at.Less(o); {
			recs, _, err := f.Next(e.ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range recs {
				at = r.Offset
			}
		}
	}},
}
