package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/veltrix/cairn/internal/eventlog"
)

var appendCases = []testCase{
	{"an append is one record", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		o, err := w.Append(e.ctx, []byte("hello"), eventlog.Offset{})
		if err != nil {
			t.Fatal(err)
		}
		recs := data(e.read(t, log0, eventlog.Offset{}))
		if len(recs) != 1 || recs[0].Offset != o || string(recs[0].Body) != "hello" {
			t.Errorf("records %+v, want one at %v", recs, o)
		}
	}},
	{"offsets grow by one behind the fence", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		offsets := e.append(t, w, 20)
		recs := data(e.read(t, log0, eventlog.Offset{})) // read checks that all follow each other
		for i, o := range offsets {
			if recs[i].Offset != o || o.Epoch != w.Fence().Epoch {
				t.Errorf("record %d at %v, acknowledged as %v in epoch %d", i, recs[i].Offset, o, w.Fence().Epoch)
			}
		}
	}},
	{"bodies of every size", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		sizes := []int{0, 1, 73, 74, 75, 4095, 4096, 32 << 10, eventlog.BodyBytesMax - 1, eventlog.BodyBytesMax}
		var want [][]byte
		for i, n := range sizes {
			body := bytes.Repeat([]byte{byte(i), 0, 0xff}, n/3+1)[:n]
			if _, err := w.Append(e.ctx, body, eventlog.Offset{}); err != nil {
				t.Fatalf("Append %d bytes: %v", n, err)
			}
			want = append(want, body)
		}
		for range 2 {
			for i, r := range data(e.read(t, log0, eventlog.Offset{})) {
				if !bytes.Equal(r.Body, want[i]) {
					t.Errorf("body %d: %d bytes, want %d", i, len(r.Body), len(want[i]))
				}
			}
			e.reopen(t)
		}
	}},
	{"a body too large is refused, and the writer goes on", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		_, err := w.Append(e.ctx, make([]byte, eventlog.BodyBytesMax+1), eventlog.Offset{})
		wantErr(t, "Append", err, eventlog.ErrTooLarge)
		e.append(t, w, 1)
		if n := len(data(e.read(t, log0, eventlog.Offset{}))); n != 1 {
			t.Errorf("%d data records, want 1", n)
		}
	}},
	{"the body is not kept", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		body := []byte("before")
		if _, err := w.Append(e.ctx, body, eventlog.Offset{}); err != nil {
			t.Fatal(err)
		}
		copy(body, "after!")
		for range 2 {
			if r := data(e.read(t, log0, eventlog.Offset{})); string(r[0].Body) != "before" {
				t.Errorf("body %q, want %q", r[0].Body, "before")
			}
			e.reopen(t)
		}
	}},
	{"from is stored", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		var want []eventlog.Offset
		for i := range 5 {
			from := eventlog.Offset{Epoch: uint64(i / 3), Seq: uint64(i) << 40}
			if _, err := w.Append(e.ctx, nil, from); err != nil {
				t.Fatal(err)
			}
			want = append(want, from)
		}
		for i, r := range data(e.read(t, log0, eventlog.Offset{})) {
			if r.From != want[i] {
				t.Errorf("record %d: From %v, want %v", i, r.From, want[i])
			}
		}
	}},
	{"records carry the writer's nonce", func(t *testing.T, e *env) {
		for range 3 {
			e.append(t, e.open(t, log0), 3)
		}
		nonces := make(map[eventlog.Nonce]uint64)
		var fence eventlog.Nonce
		for _, r := range e.read(t, log0, eventlog.GenesisOffset) {
			if r.Kind == eventlog.Fence {
				if epoch, ok := nonces[r.Nonce]; ok {
					t.Errorf("epochs %d and %d have one nonce", epoch, r.Offset.Epoch)
				}
				fence, nonces[r.Nonce] = r.Nonce, r.Offset.Epoch
			}
			if r.Nonce != fence {
				t.Errorf("record %v: nonce %x, want its fence's %x", r.Offset, r.Nonce, fence)
			}
		}
	}},
	{"an acknowledged append is there after a reopen", func(t *testing.T, e *env) {
		offsets := e.append(t, e.open(t, log0), 50)
		before := e.read(t, log0, eventlog.Offset{})
		e.reopen(t)
		after := e.read(t, log0, eventlog.Offset{})
		if len(after) < len(before) {
			t.Fatalf("%d records, want at least %d", len(after), len(before))
		}
		for i := range before {
			if before[i].Chain != after[i].Chain {
				t.Errorf("record %v became %v", before[i].Offset, after[i].Offset)
			}
		}
		if st := e.status(t, log0); st.Durable.Less(offsets[49]) {
			t.Errorf("durable up to %v, want %v", st.Durable, offsets[49])
		}
	}},
	{"status tells the head", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		if st := e.status(t, log0); st.Last.Less(w.Fence()) || st.First != w.Fence() {
			t.Errorf("status %+v, want first and last %v", st, w.Fence())
		}
		offsets := e.append(t, w, 7)
		for range 2 {
			st := e.status(t, log0)
			recs := e.read(t, log0, eventlog.Offset{})
			newest := recs[len(recs)-1]
			if st.Last.Less(offsets[6]) || newest.Offset != st.Last || newest.Chain != st.Chain || st.Last.Less(st.Durable) || st.First != w.Fence() {
				t.Errorf("status %+v, newest record %v, chain %x", st, newest.Offset, newest.Chain)
			}
			e.reopen(t)
		}
	}},
	{"a volatile log takes appends", func(t *testing.T, e *env) {
		w := e.open(t, volatile)
		e.append(t, w, 10)
		if n := len(data(e.read(t, volatile, eventlog.Offset{}))); n != 10 {
			t.Errorf("%d data records, want 10", n)
		}
	}},
	{"volatile and durable appends mixed", func(t *testing.T, e *env) {
		w, v := e.open(t, log0), e.open(t, volatile)
		for range 10 {
			e.append(t, v, 3)
			e.append(t, w, 1)
		}
		e.reopen(t)
		if n := len(data(e.read(t, log0, eventlog.Offset{}))); n != 10 {
			t.Errorf("%d data records, want 10", n)
		}
		e.read(t, volatile, eventlog.Offset{})
	}},
	{"a context that has ended appends nothing", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		ctx, cancel := context.WithCancel(e.ctx)
		cancel()
		_, err := w.Append(ctx, []byte("never"), eventlog.Offset{})
		wantErr(t, "Append", err, context.Canceled)
		if errors.Is(err, eventlog.ErrUnknown) { // allowed: then the log decides
			w = e.open(t, log0)
		}
		e.append(t, w, 1)
	}},
	{"a context that ends while the outcome is open", func(t *testing.T, e *env) {
		// Whatever comes of each append, an acknowledged one is in the log,
		// one that was pushed back is not, and at most one is unknown a writer.
		w := e.open(t, log0)
		const (
			acknowledged = "acknowledged"
			refused      = "refused"
		)
		fate := make(map[string]string)
		for i := range 200 {
			ctx, cancel := context.WithCancel(e.ctx)
			go cancel()
			body := fmt.Sprint(i)
			_, err := w.Append(ctx, []byte(body), eventlog.Offset{})
			cancel()
			switch {
			case err == nil:
				fate[body] = acknowledged
			case errors.Is(err, eventlog.ErrUnknown):
				if _, err := w.Append(e.ctx, []byte("zombie"), eventlog.Offset{}); err == nil {
					t.Fatal("an append after ErrUnknown was taken")
				}
				w = e.open(t, log0)
			case errors.Is(err, context.Canceled):
				fate[body] = refused
			default:
				t.Fatalf("Append: %v", err)
			}
		}
		e.open(t, log0) // waits for what is in flight
		seen := make(map[string]bool)
		for _, r := range data(e.read(t, log0, eventlog.Offset{})) {
			if seen[string(r.Body)] || string(r.Body) == "zombie" {
				t.Errorf("record %v: body %q, twice or from beyond", r.Offset, r.Body)
			}
			seen[string(r.Body)] = true
		}
		for body, f := range fate {
			if seen[body] != (f == acknowledged) {
				t.Errorf("append %s was %s, in the log: %v", body, f, seen[body])
			}
		}
	}},
	{"many logs at once", func(t *testing.T, e *env) {
		const logs, each = 24, 40
		var specs []eventlog.Spec
		for i := range logs {
			specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
		}
		if err := e.s.Provision(e.ctx, specs...); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range logs {
			wg.Go(func() {
				w, err := e.s.Open(e.ctx, eventlog.Shard(i))
				if err != nil {
					t.Errorf("Open: %v", err)
					return
				}
				for k := range each {
					if _, err := w.Append(e.ctx, []byte(fmt.Sprintf("%d/%d", i, k)), eventlog.Offset{}); err != nil {
						t.Errorf("Append: %v", err)
						return
					}
				}
			})
		}
		wg.Wait()
		for range 2 {
			for i := range logs {
				recs := data(e.read(t, eventlog.Shard(i), eventlog.Offset{}))
				if len(recs) != each {
					t.Errorf("log %d: %d records, want %d", i, len(recs), each)
				}
				for k, r := range recs {
					if want := fmt.Sprintf("%d/%d", i, k); string(r.Body) != want {
						t.Errorf("log %d: body %q, want %q", i, r.Body, want)
					}
				}
			}
			e.reopen(t)
		}
	}},
}
