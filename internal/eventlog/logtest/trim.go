package logtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/veltrix/cairn/internal/eventlog"
)

var trimCases = []testCase{
	{"drops what is before, and no more", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		offsets := e.append(t, w, 10)
		before := e.read(t, log0, eventlog.Offset{})
		e.trim(t, log0, offsets[6])
		for range 2 {
			st := e.status(t, log0)
			if st.First != offsets[6] || st.Base != offsets[5] {
				t.Errorf("status %+v, want first %v behind %v", st, offsets[6], offsets[5])
			}
			recs := e.read(t, log0, st.Base)
			if len(data(recs)) != 4 || recs[0].Offset != offsets[6] {
				t.Errorf("%d data records from %v, want 4 from %v", len(data(recs)), recs[0].Offset, offsets[6])
			}
			if last := recs[len(recs)-1]; before[len(before)-1].Chain != last.Chain && st.Last == before[len(before)-1].Offset {
				t.Errorf("trimming changed record %v", last.Offset)
			}
			e.reopen(t)
		}
	}},
	{"following from what is gone", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		offsets := e.append(t, w, 10)
		e.trim(t, log0, offsets[6])
		for range 2 {
			for _, o := range []eventlog.Offset{{}, eventlog.GenesisOffset, w.Fence(), offsets[0], offsets[4]} {
				_, err := e.s.Follow(e.ctx, log0, o)
				wantErr(t, fmt.Sprintf("Follow from %v", o), err, eventlog.ErrTrimmed)
			}
			e.reopen(t)
		}
	}},
	{"a follower that is behind is told", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		offsets := e.append(t, w, 10)
		f := e.follow(t, log0, offsets[2])
		at := e.follow(t, log0, offsets[5])
		e.trim(t, log0, offsets[6])
		_, _, err := f.Next(e.ctx)
		wantErr(t, "Next", err, eventlog.ErrTrimmed)
		if recs, _, err := at.Next(e.ctx); err != nil || recs[0].Offset != offsets[6] {
			t.Errorf("Next of a follower that is not behind: %v, %v", recs, err)
		}
	}},
	{"never the newest", func(t *testing.T, e *env) {
		for _, before := range []eventlog.Offset{{Epoch: 1, Seq: 1000}, {Epoch: 1 << 40}} {
			w := e.open(t, log0)
			last := e.append(t, w, 5)[4]
			e.trim(t, log0, before)
			st := e.status(t, log0)
			if st.Last.Less(last) || st.First.IsZero() || st.Last.Less(st.First) {
				t.Errorf("status %+v after a trim before %v, newest %v", st, before, last)
			}
			e.append(t, w, 1)
			e.reopen(t)
			if recs := e.read(t, log0, e.status(t, log0).Base); len(recs) == 0 {
				t.Error("the log is empty")
			}
		}
	}},
	{"never the genesis", func(t *testing.T, e *env) {
		genesis := e.status(t, log0).Genesis
		e.append(t, e.open(t, log0), 5)
		e.trim(t, log0, eventlog.Offset{Epoch: 1, Seq: 3})
		e.reopen(t)
		if st := e.status(t, log0); st.Genesis != genesis {
			t.Errorf("genesis %x, want %x", st.Genesis, genesis)
		}
	}},
	{"of a log that has only its genesis", func(t *testing.T, e *env) {
		for _, o := range []eventlog.Offset{{}, eventlog.GenesisOffset, {Epoch: 3}} {
			e.trim(t, log0, o)
		}
		if recs := e.read(t, log0, eventlog.Offset{}); len(recs) != 1 {
			t.Errorf("%d records, want the genesis", len(recs))
		}
		e.append(t, e.open(t, log0), 1)
	}},
	{"before what is held changes nothing", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		offsets := e.append(t, w, 6)
		for _, o := range []eventlog.Offset{{}, eventlog.GenesisOffset, w.Fence()} {
			e.trim(t, log0, o)
		}
		if recs := e.read(t, log0, eventlog.Offset{}); len(data(recs)) != 6 {
			t.Errorf("%d data records, want 6", len(data(recs)))
		}
		e.trim(t, log0, offsets[3])
		before := e.status(t, log0)
		e.trim(t, log0, offsets[3])
		e.trim(t, log0, offsets[1])
		if after := e.status(t, log0); after != before {
			t.Errorf("status %+v, want %+v", after, before)
		}
	}},
	{"again and again", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		for range 10 {
			offsets := e.append(t, w, 5)
			e.trim(t, log0, offsets[4])
			st := e.status(t, log0)
			if st.First != offsets[4] {
				t.Errorf("first %v, want %v", st.First, offsets[4])
			}
			if recs := e.read(t, log0, st.Base); data(recs)[0].Offset != offsets[4] {
				t.Errorf("first record %v, want %v", recs[0].Offset, offsets[4])
			}
		}
		e.reopen(t)
		e.read(t, log0, e.status(t, log0).Base)
	}},
	{"over fences", func(t *testing.T, e *env) {
		var fences []eventlog.Offset
		for range 4 {
			w := e.open(t, log0)
			fences = append(fences, w.Fence())
			e.append(t, w, 3)
		}
		e.trim(t, log0, fences[2])
		for range 2 {
			st := e.status(t, log0)
			if st.First != fences[2] || st.Base.Epoch != 2 {
				t.Errorf("status %+v, want first %v", st, fences[2])
			}
			if recs := e.read(t, log0, st.Base); len(data(recs)) != 6 {
				t.Errorf("%d data records, want 6", len(data(recs)))
			}
			e.reopen(t)
		}
	}},
	{"of one log leaves the others whole", func(t *testing.T, e *env) {
		e.append(t, e.open(t, log0), 5)
		e.append(t, e.open(t, volatile), 5)
		e.trim(t, log0, eventlog.Offset{Epoch: 2})
		if recs := data(e.read(t, volatile, eventlog.Offset{})); len(recs) != 5 {
			t.Errorf("%d data records, want 5", len(recs))
		}
	}},
	{"epochs and chain go on", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		e.append(t, w, 5)
		e.trim(t, log0, eventlog.Offset{Epoch: 9})
		e.reopen(t)
		next := e.open(t, log0)
		if next.Fence().Epoch != 2 {
			t.Errorf("epoch %d, want 2", next.Fence().Epoch)
		}
		e.append(t, next, 2)
		e.read(t, log0, e.status(t, log0).Base)
	}},
	{"while a writer and followers are at work", func(t *testing.T, e *env) {
		w := e.open(t, log0)
		const n = 150
		ctx, cancel := context.WithCancel(e.ctx)
		defer cancel()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				after := eventlog.GenesisOffset
				for ctx.Err() == nil {
					f, err := e.s.Follow(ctx, log0, after)
					for err == nil {
						var recs []eventlog.Record
						recs, _, err = f.Next(ctx)
						if len(recs) > 0 {
							checkChain(t, after, recs)
							after = recs[len(recs)-1].Offset
						}
					}
					if errors.Is(err, eventlog.ErrTrimmed) {
						st, statusErr := e.s.Status(e.ctx, log0)
						if statusErr != nil {
							t.Errorf("Status: %v", statusErr)
							return
						}
						after = st.Base
					} else if ctx.Err() == nil {
						t.Errorf("Follow from %v: %v", after, err)
						return
					}
				}
			})
		}
		for range n {
			o := e.append(t, w, 1)[0]
			if o.Seq%4 == 0 {
				e.trim(t, log0, o)
			}
		}
		cancel()
		wg.Wait()
	}},
}
