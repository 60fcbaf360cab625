package logtest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/veltrix/cairn/internal/eventlog"
)

var followCases = []testCase{
	{"from every offset", func(t *testing.T, e *env) {
		for range 3 {
			e.append(t, e.open(t, log0), 4)
		}
		for range 2 { // from what the store has in mind, and from what it kept
			all := e.read(t, log0, eventlog.Offset{})
			for i, r := range all[:len(all)-1] {
				got := e.read(t, log0, r.Offset)
				if len(got) != len(all)-i-1 || got[0].Chain != all[i+1].Chain {
					t.Errorf("from %v: %d records from %v, want %d from %v",
						r.Offset, len(got), got[0].Offset, len(all)-i-1, all[i+1].Offset)
				}
			}
			e.reopen(t)
		}
	}},
	{"more than one call returns", func(t *testing.T, e *env) {
		w := e.open(t, volatile)
		const n = 3000
		for i := range n {
			if _, err := w.Append(e.ctx, []byte(fmt.Sprint(i)), eventlog.Offset{}); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			recs := data(e.read(t, volatile, eventlog.Offset{}))
			if len(recs) != n {
				t.Fatalf("%d data records, want %d", len(recs), n)
			}
			for i, r := range recs {
				if string(r.Body) != fmt.Sprint(i) {
					t.Fatalf("record %v: body %q, want %d", r.Offset, r.Body, i)
				}
			}
			e.reopen(t)
		}
	}},
	{"many large bodies", func(t *testing.T, e *env) {
		w := e.open(t, volatile)
		body := make([]byte, eventlog.BodyBytesMax)
		for i := range 80 {
			body[0], body[len(body)-1] = byte(i), byte(i)
			if _, err := w.Append(e.ctx, body, eventlog.Offset{}); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			recs := data(e.read(t, volatile, eventlog.Offset{}))
			if len(recs) != 80 {
				t.Fatalf("%d data records, want 80", len(recs))
			}
			for i, r := range recs {
				if len(r.Body) != len(body) || r.Body[0] != byte(i) || r.Body[len(body)-1] != byte(i) {
					t.Errorf("record %v: body of %d bytes begins with %d, want %d", r.Offset, len(r.Body), r.Body[0], i)
				}
			}
			e.reopen(t)
		}
	}},
	{"a follower that waits is woken", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		f := e.follow(t, log0, w.Fence())
		got := make(chan eventlog.Record)
		go func() {
			defer close(got)
			for n := 0; n < 20; {
				recs, _, err := f.Next(e.ctx)
				if err != nil {
					t.Errorf("Next: %v", err)
					return
				}
				for _, r := range recs {
					if r.Kind == eventlog.Data {
						n++
						got <- r
					}
				}
			}
		}()
		for i := range 20 {
			o, err := w.Append(e.ctx, []byte{byte(i)}, eventlog.Offset{})
			if err != nil {
				t.Fatal(err)
			}
			if r := <-got; r.Offset != o { // only now the next is appended
				t.Fatalf("woken for %v, want %v", r.Offset, o)
			}
		}
		<-got
	}},
	{"a fence wakes", func(t *testing.T, e *env) {
		f := e.follow(t, log0, eventlog.GenesisOffset)
		got := make(chan eventlog.Offset, 1)
		go func() {
			recs, _, err := f.Next(e.ctx)
			if err != nil || len(recs) == 0 {
				t.Errorf("Next: %d records, %v", len(recs), err)
				got <- eventlog.Offset{}
				return
			}
			got <- recs[0].Offset
		}()
		w := e.open(t, log0)
		if o := <-got; o != w.Fence() {
			t.Errorf("woken for %v, want %v", o, w.Fence())
		}
	}},
	{"several followers see the same", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		const followers, n = 16, 100
		seen := make([][]eventlog.Chain, followers)
		var wg sync.WaitGroup
		for i := range followers {
			f := e.follow(t, log0, w.Fence())
			wg.Go(func() {
				for len(seen[i]) < n {
					recs, _, err := f.Next(e.ctx)
					if err != nil {
						t.Errorf("Next: %v", err)
						return
					}
					for _, r := range data(recs) {
						seen[i] = append(seen[i], r.Chain)
					}
				}
			})
		}
		e.append(t, w, n)
		wg.Wait()
		for i := range seen {
			if fmt.Sprint(seen[i]) != fmt.Sprint(seen[0]) {
				t.Errorf("followers 0 and %d saw other records", i)
			}
		}
	}},
	{"records lent before do not change while they are", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		e.append(t, w, 3)
		f := e.follow(t, log0, w.Fence())
		recs, _, err := f.Next(e.ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := string(recs[0].Body)
		e.append(t, w, 300)
		if string(recs[0].Body) != want {
			t.Errorf("a borrowed body became %q, was %q", recs[0].Body, want)
		}
	}},
	{"the durable mark comes along", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		o := e.append(t, w, 5)[4]
		f := e.follow(t, log0, eventlog.Offset{})
		var durable eventlog.Offset
		for durable.Less(o) { // on some backends the mark follows later
			var err error
			if _, durable, err = f.Next(e.ctx); err != nil {
				t.Fatal(err)
			}
		}
		if st := e.status(t, log0); st.Durable.Less(durable) {
			t.Errorf("status: durable up to %v, follower: %v", st.Durable, durable)
		}
	}},
	{"records carry marks that never fall", func(t *testing.T, e *env) {
		for range 2 {
			e.append(t, e.open(t, log0), 10)
			e.reopen(t)
		}
		var mark eventlog.Offset
		for _, r := range e.read(t, log0, eventlog.Offset{}) {
			if r.Mark.Less(mark) {
				t.Errorf("record %v: Mark %v, before it %v", r.Offset, r.Mark, mark)
			}
			mark = r.Mark
		}
		if mark.IsZero() {
			t.Error("no record has a mark")
		}
	}},
	{"a context that ends wakes", func(t *testing.T, e *env) {
		f := e.follow(t, log0, eventlog.GenesisOffset)
		ctx, cancel := context.WithCancel(e.ctx)
		got := make(chan error, 1)
		go func() {
			_, _, err := f.Next(ctx)
			got <- err
		}()
		cancel()
		wantErr(t, "Next", <-got, context.Canceled)
		// The follower goes on with another.
		w := e.open(t, log0)
		recs, _, err := f.Next(e.ctx)
		if err != nil || len(recs) == 0 || recs[0].Offset != w.Fence() {
			t.Errorf("Next after: %v, %v", recs, err)
		}
	}},
	{"an offset ahead of the log diverged", func(t *testing.T, e *env) {
		last := e.append(t, e.open(t, log0), 3)[2]
		for _, o := range []eventlog.Offset{{Epoch: 1, Seq: last.Seq + 1000}, {Epoch: 2}, {Epoch: 1 << 60, Seq: 5}} {
			_, err := e.s.Follow(e.ctx, log0, o)
			wantErr(t, fmt.Sprintf("Follow from %v", o), err, eventlog.ErrDiverged)
		}
	}},
	{"an offset that the log skipped diverged", func(t *testing.T, e *env) {
		for range 2 {
			e.append(t, e.open(t, log0), 3)
		}
		for range 2 {
			for _, o := range []eventlog.Offset{{Epoch: 1, Seq: 1000}, {Epoch: 0, Seq: 2}} {
				_, err := e.s.Follow(e.ctx, log0, o)
				wantErr(t, fmt.Sprintf("Follow from %v", o), err, eventlog.ErrDiverged)
			}
			e.reopen(t)
		}
	}},
	{"from before the genesis and from the genesis", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		if recs := e.read(t, log0, eventlog.Offset{}); recs[0].Kind != eventlog.Genesis {
			t.Errorf("first record %+v, want the genesis", recs[0])
		}
		if recs := e.read(t, log0, eventlog.GenesisOffset); recs[0].Offset != w.Fence() {
			t.Errorf("first record %+v, want the fence", recs[0])
		}
	}},
	{"only what was acknowledged", func(t *testing.T, e *env) {
		// A follower never sees a record before its writer could be told.
		w := e.open(t, log0)
		f := e.follow(t, log0, w.Fence())
		for range 50 {
			o := e.append(t, w, 1)[0]
			recs, _, err := f.Next(e.ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range data(recs) {
				if o.Less(r.Offset) {
					t.Errorf("saw %v, acknowledged up to %v", r.Offset, o)
				}
			}
		}
	}},
}
