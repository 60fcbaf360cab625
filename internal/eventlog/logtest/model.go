package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/veltrix/cairn/internal/eventlog"
)

// runModel drives a log by random calls and compares it with a model of
// slices.
func runModel(t *testing.T, b Backend) {
	e := newEnv(t, b)
	var logs int
	rapid.Check(t, func(rt *rapid.T) {
		logs++
		m := &model{
			t: rt, e: e, tb: t,
			log:      eventlog.Name(fmt.Sprintf("p%d", logs)),
			volatile: rapid.Bool().Draw(rt, "volatile"),
			ctx:      context.Background(),
		}
		if err := e.s.Provision(m.ctx, eventlog.Spec{Name: m.log, Volatile: m.volatile}); err != nil {
			rt.Fatalf("Provision: %v", err)
		}
		m.recs = []entry{{offset: eventlog.GenesisOffset, kind: eventlog.Genesis}}
		rt.Repeat(map[string]func(*rapid.T){
			"open":   m.open,
			"append": m.append,
			"late":   m.late,
			"follow": m.follow,
			"trim":   m.trim,
			"reopen": m.reopen,
			"":       m.check,
		})
	})
}

// An entry is what the model knows of a record.
type entry struct {
	offset, from eventlog.Offset
	kind         eventlog.Kind
	body         []byte
}

type model struct {
	t   *rapid.T
	tb  testing.TB
	e   *env
	ctx context.Context

	log      eventlog.Name
	volatile bool
	recs     []entry // all that ever were, Mark records aside
	gone     int     // how many of recs, from the genesis, were trimmed; 0 none
	writer   eventlog.Writer
	old      []eventlog.Writer
}

func (m *model) last() entry { return m.recs[len(m.recs)-1] }

func (m *model) open(t *rapid.T) {
	w, err := m.e.s.Open(m.ctx, m.log)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	want := m.last()
	if w.Fence() != (eventlog.Offset{Epoch: want.offset.Epoch + 1}) || w.From() != want.from {
		t.Fatalf("fence %v, from %v: want epoch %d, from %v", w.Fence(), w.From(), want.offset.Epoch+1, want.from)
	}
	if m.writer != nil {
		m.old = append(m.old, m.writer)
	}
	m.writer = w
	m.recs = append(m.recs, entry{offset: w.Fence(), kind: eventlog.Fence, from: want.from})
}

func (m *model) append(t *rapid.T) {
	if m.writer == nil {
		m.open(t)
	}
	for range rapid.IntRange(1, 8).Draw(t, "n") {
		body := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "body")
		from := m.recs[rapid.IntRange(0, len(m.recs)-1).Draw(t, "from")].offset
		o, err := m.writer.Append(m.ctx, body, from)
		if err != nil {
			t.Fatalf("Append: %v", err)
		}
		if !m.last().offset.Less(o) || o.Epoch != m.writer.Fence().Epoch {
			t.Fatalf("appended at %v behind %v, fence %v", o, m.last().offset, m.writer.Fence())
		}
		m.recs = append(m.recs, entry{o, from, eventlog.Data, bytes.Clone(body)})
	}
}

// late has a writer that was fenced out append.
func (m *model) late(t *rapid.T) {
	if len(m.old) == 0 {
		return // no writer is fenced out yet
	}
	w := rapid.SampledFrom(m.old).Draw(t, "old")
	if _, err := w.Append(m.ctx, []byte("late"), eventlog.Offset{}); !errors.Is(err, eventlog.ErrFenced) {
		t.Fatalf("Append by epoch %d: %v, want ErrFenced", w.Fence().Epoch, err)
	}
}

// follow reads from a random offset to the end.
func (m *model) follow(t *rapid.T) {
	i := rapid.IntRange(0, len(m.recs)).Draw(t, "after") // read recs[i:]
	var after eventlog.Offset
	if i > 0 {
		after = m.recs[i-1].offset
	}
	f, err := m.e.s.Follow(m.ctx, m.log, after)
	// Where a Mark stood between the last record that is gone and the first
	// that is held, the log is held from behind the Mark only.
	marked := i == m.gone && m.gone > 0 && after != m.status(t).Base
	if i < m.gone || marked {
		if !errors.Is(err, eventlog.ErrTrimmed) {
			t.Fatalf("Follow from %v: %v, want ErrTrimmed", after, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("Follow from %v: %v", after, err)
	}
	defer f.Close()
	for at := after; i < len(m.recs); {
		recs, _, err := f.Next(m.ctx)
		if err != nil {
			t.Fatalf("Next behind %v: %v", at, err)
		}
		checkChain(m.tb, at, recs)
		for _, r := range recs {
			at = r.Offset
			if r.Kind == eventlog.Mark {
				continue
			}
			want := m.recs[i]
			if r.Offset != want.offset || r.Kind != want.kind || r.From != want.from ||
				r.Kind == eventlog.Data && !bytes.Equal(r.Body, want.body) {
				t.Fatalf("record %+v, want %+v", r, want)
			}
			i++
		}
	}
}

func (m *model) trim(t *rapid.T) {
	i := rapid.IntRange(0, len(m.recs)-1).Draw(t, "before") // drop recs[1:i]
	if err := m.e.s.Trim(m.ctx, m.log, m.recs[i].offset); err != nil {
		t.Fatalf("Trim: %v", err)
	}
	if i > 1 {
		m.gone = max(m.gone, i)
	}
}

func (m *model) reopen(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "reopen") != 0 {
		return // it takes longer than all else
	}
	m.e.s = m.e.b.Reopen(m.tb)
	m.writer, m.old = nil, nil
}

// check compares the status; it runs after every call.
func (m *model) check(t *rapid.T) {
	st := m.status(t)
	var first eventlog.Offset
	if len(m.recs) > 1 {
		first = m.recs[max(m.gone, 1)].offset
	}
	var base eventlog.Offset
	if m.gone > 0 {
		base = m.recs[m.gone-1].offset
	}
	baseOK := st.Base == base
	if m.gone > 0 { // the record directly before first may be a Mark
		baseOK = !st.Base.Less(base) && st.Base.Less(first)
	}
	if st.Last.Less(m.last().offset) || st.First != first || !baseOK || st.Volatile != m.volatile || st.Last.Less(st.Durable) {
		t.Fatalf("status %+v, want last %v, first %v, base %v", st, m.last().offset, first, base)
	}
}

func (m *model) status(t *rapid.T) eventlog.Status {
	st, err := m.e.s.Status(m.ctx, m.log)
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	return st
}
