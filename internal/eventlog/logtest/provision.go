package logtest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/veltrix/cairn/internal/eventlog"
)

var provisionCases = []testCase{
	{"a log begins with its genesis", func(t *testing.T, e *env) {
		st := e.status(t, log0)
		recs := e.read(t, log0, eventlog.Offset{})
		if len(recs) != 1 {
			t.Fatalf("%d records, want the genesis", len(recs))
		}
		g := recs[0]
		if g.Kind != eventlog.Genesis || g.Offset != eventlog.GenesisOffset || string(g.Body) != string(st.Genesis[:]) {
			t.Errorf("genesis %+v, want id %x", g, st.Genesis)
		}
	}},
	{"every genesis is another", func(t *testing.T, e *env) {
		if a, b := e.status(t, log0).Genesis, e.status(t, volatile).Genesis; a == b || a == [16]byte{} {
			t.Errorf("two logs have the ids %x and %x", a, b)
		}
	}},
	{"status of a new log", func(t *testing.T, e *env) {
		st := e.status(t, log0)
		if st.Last != eventlog.GenesisOffset || !st.First.IsZero() || !st.Base.IsZero() || st.Volatile {
			t.Errorf("status %+v", st)
		}
		if st.Chain != e.read(t, log0, eventlog.Offset{})[0].Chain {
			t.Errorf("status has not the genesis' chain")
		}
	}},
	{"provisioning again leaves a log alone", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		e.append(t, w, 3)
		before := e.status(t, log0)
		if err := e.s.Provision(e.ctx, eventlog.Spec{Name: log0}, eventlog.Spec{Name: "s01"}); err != nil {
			t.Fatal(err)
		}
		if after := e.status(t, log0); after != before {
			t.Errorf("status %+v, want %+v", after, before)
		}
		if _, err := w.Append(e.ctx, nil, eventlog.Offset{}); err != nil {
			t.Errorf("Append after provisioning: %v", err)
		}
		e.status(t, "s01")
	}},
	{"provisioning again leaves a log alone after a reopen", func(t *testing.T, e *env) {
		e.append(t, e.open(t, log0), 3)
		before := e.status(t, log0)
		e.reopen(t)
		if err := e.s.Provision(e.ctx, eventlog.Spec{Name: log0}); err != nil {
			t.Fatal(err)
		}
		after := e.status(t, log0)
		if after.Genesis != before.Genesis || after.Last.Less(before.Last) {
			t.Errorf("status %+v, want %+v", after, before)
		}
	}},
	{"the same log twice in one call", func(t *testing.T, e *env) {
		if err := e.s.Provision(e.ctx, eventlog.Spec{Name: "s05"}, eventlog.Spec{Name: "s05"}); err != nil {
			t.Fatal(err)
		}
		if n := len(e.read(t, "s05", eventlog.Offset{})); n != 1 {
			t.Errorf("%d records, want 1", n)
		}
	}},
	{"a provisioned log is there after a reopen", func(t *testing.T, e *env) {
		before, beforeVolatile := e.status(t, log0), e.status(t, volatile)
		e.reopen(t)
		if after := e.status(t, log0); after != before {
			t.Errorf("status %+v, want %+v", after, before)
		}
		if after := e.status(t, volatile); after.Genesis != beforeVolatile.Genesis || !after.Volatile {
			t.Errorf("status %+v, want %+v", after, beforeVolatile)
		}
	}},
	{"names are sorted", func(t *testing.T, e *env) {
		if err := e.s.Provision(e.ctx, eventlog.Spec{Name: "zz"}, eventlog.Spec{Name: "a-b_9"}); err != nil {
			t.Fatal(err)
		}
		want := []eventlog.Name{"a-b_9", log0, volatile, "zz"}
		for range 2 {
			if got, err := e.s.Logs(e.ctx); err != nil || !slices.Equal(got, want) {
				t.Errorf("Logs: %v, %v, want %v", got, err, want)
			}
			e.reopen(t)
		}
	}},
	{"a bad name is refused, and nothing made", func(t *testing.T, e *env) {
		for _, bad := range []eventlog.Name{"", "S00", "a b", "a\x00", "ü", "0123456789012345678901234567890123"} {
			if err := e.s.Provision(e.ctx, eventlog.Spec{Name: "ok"}, eventlog.Spec{Name: bad}); err == nil {
				t.Errorf("Provision %q: no error", bad)
			}
		}
		if got, _ := e.s.Logs(e.ctx); len(got) != 2 {
			t.Errorf("logs %v, want the two of before", got)
		}
	}},
	{"one name may begin another", func(t *testing.T, e *env) {
		names := []eventlog.Name{"s", "s0", "s000", "s00-", "s00_", "s00a"}
		for _, n := range names {
			if err := e.s.Provision(e.ctx, eventlog.Spec{Name: n}); err != nil {
				t.Fatal(err)
			}
			e.append(t, e.open(t, n), 2)
		}
		e.append(t, e.open(t, log0), 1)
		e.trim(t, "s0", eventlog.Offset{Epoch: 9})
		for _, n := range append(names[2:], names[0]) {
			if recs := e.read(t, n, eventlog.Offset{}); len(data(recs)) != 2 {
				t.Errorf("log %s: %d data records, want 2", n, len(data(recs)))
			}
		}
	}},
	{"a log that was never provisioned is missing", func(t *testing.T, e *env) {
		_, err := e.s.Status(e.ctx, "s99")
		wantErr(t, "Status", err, eventlog.ErrMissing)
		_, err = e.s.Open(e.ctx, "s99")
		wantErr(t, "Open", err, eventlog.ErrMissing)
		_, err = e.s.Follow(e.ctx, "s99", eventlog.Offset{})
		wantErr(t, "Follow", err, eventlog.ErrMissing)
		wantErr(t, "Trim", e.s.Trim(e.ctx, "s99", eventlog.Offset{Epoch: 1}), eventlog.ErrMissing)
		_, err = e.s.Status(e.ctx, "s99")
		wantErr(t, "Status after all of them", err, eventlog.ErrMissing)
	}},
	{"a context that has ended provisions nothing", func(t *testing.T, e *env) {
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		wantErr(t, "Provision", e.s.Provision(ctx, eventlog.Spec{Name: "s07"}), context.Canceled)
		if _, err := e.s.Status(e.ctx, "s07"); !errors.Is(err, eventlog.ErrMissing) {
			t.Errorf("Status: %v, want ErrMissing", err)
		}
	}},
}

var closeCases = []testCase{
	{"all calls on a closed store", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		f := e.follow(t, log0, eventlog.Offset{})
		if err := e.s.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := w.Append(e.ctx, []byte("x"), eventlog.Offset{})
		wantErr(t, "Append", err, eventlog.ErrClosed)
		_, _, err = f.Next(e.ctx)
		wantErr(t, "Next", err, eventlog.ErrClosed)
		_, err = e.s.Open(e.ctx, log0)
		wantErr(t, "Open", err, eventlog.ErrClosed)
		_, err = e.s.Follow(e.ctx, log0, eventlog.Offset{})
		wantErr(t, "Follow", err, eventlog.ErrClosed)
		_, err = e.s.Status(e.ctx, log0)
		wantErr(t, "Status", err, eventlog.ErrClosed)
		_, err = e.s.Logs(e.ctx)
		wantErr(t, "Logs", err, eventlog.ErrClosed)
		wantErr(t, "Provision", e.s.Provision(e.ctx, eventlog.Spec{Name: "s08"}), eventlog.ErrClosed)
		wantErr(t, "Trim", e.s.Trim(e.ctx, log0, eventlog.Offset{Epoch: 1}), eventlog.ErrClosed)
		if err := e.s.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	}},
	{"close wakes a follower that waits", func(t *testing.T, e *env) {
		f := e.follow(t, log0, eventlog.GenesisOffset)
		got := make(chan error, 1)
		go func() {
			_, _, err := f.Next(e.ctx)
			got <- err
		}()
		if err := e.s.Close(); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "Next", <-got, eventlog.ErrClosed)
	}},
	{"a closed writer appends nothing", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := w.Append(e.ctx, []byte("x"), eventlog.Offset{})
		wantErr(t, "Append", err, eventlog.ErrClosed)
		if n := len(data(e.read(t, log0, eventlog.Offset{}))); n != 0 {
			t.Errorf("%d data records, want 0", n)
		}
	}},
	{"closing a writer does not fence", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		last := e.append(t, w, 1)[0]
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if st := e.status(t, log0); st.Last.Epoch != last.Epoch {
			t.Errorf("log ends at %v, want the epoch of %v", st.Last, last)
		}
	}},
	{"a closed follower reads nothing", func(t *testing.T, e *env) {
		f := e.follow(t, log0, eventlog.Offset{})
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, err := f.Next(e.ctx)
		wantErr(t, "Next", err, eventlog.ErrClosed)
	}},
}
