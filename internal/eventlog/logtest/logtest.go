// Package logtest is the suite that every backend of the fenced log passes: it
// is the contract of package eventlog in a form that runs.
//
// A backend's test calls [Run]. Rules that hold for some backends only are
// told by [Backend]; all else holds for all.
package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A Backend is what a test of a backend gives to the suite.
type Backend struct {
	// Store is empty: it holds no log. The suite closes it.
	Store eventlog.Store

	// Reopen closes the newest store and opens what it kept anew. It may be
	// called any number of times.
	Reopen func(t testing.TB) eventlog.Store

	// Second opens the same logs once more, as another process would. Nil
	// where that is refused (filelog); else fences are tested across stores.
	Second func(t testing.TB) eventlog.Store
}

// Run runs the suite. open returns a new, empty backend each time.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	for _, group := range []struct {
		name  string
		cases []testCase
	}{
		{"provision", provisionCases},
		{"append", appendCases},
		{"fence", fenceCases},
		{"follow", followCases},
		{"trim", trimCases},
		{"close", closeCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) { c.run(t, newEnv(t, open(t))) })
			}
		})
	}
	t.Run("across stores", func(t *testing.T) {
		for _, c := range secondCases {
			b := open(t)
			e := newEnv(t, b)
			if b.Second == nil {
				continue // the backend's own tests show that it is refused
			}
			t.Run(c.name, func(t *testing.T) { c.run(t, e) })
		}
	})
	t.Run("model", func(t *testing.T) { runModel(t, open(t)) })
}

type testCase struct {
	name string
	run  func(t *testing.T, e *env)
}

// An env is one backend under test, with a log "s00" that is provisioned, and
// a volatile one "standings".
type env struct {
	b   Backend
	s   eventlog.Store
	ctx context.Context
}

// patience bounds what must happen, sooner or later.
const patience = 30 * time.Second

const (
	log0     eventlog.Name = "s00"
	volatile               = eventlog.Standings
)

func newEnv(t *testing.T, b Backend) *env {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	e := &env{b: b, s: b.Store, ctx: ctx}
	t.Cleanup(func() {
		cancel()
		if err := e.s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if err := e.s.Provision(ctx, eventlog.Spec{Name: log0}, eventlog.Spec{Name: volatile, Volatile: true}); err != nil {
		t.Fatalf("Provision: %v", err)
	}
	return e
}

func (e *env) reopen(t *testing.T) {
	t.Helper()
	e.s = e.b.Reopen(t)
}

func (e *env) open(t *testing.T, log eventlog.Name) eventlog.Writer {
	t.Helper()
	w, err := e.s.Open(e.ctx, log)
	if err != nil {
		t.Fatalf("Open %s: %v", log, err)
	}
	return w
}

func (e *env) status(t *testing.T, log eventlog.Name) eventlog.Status {
	t.Helper()
	st, err := e.s.Status(e.ctx, log)
	if err != nil {
		t.Fatalf("Status %s: %v", log, err)
	}
	return st
}

func (e *env) follow(t *testing.T, log eventlog.Name, after eventlog.Offset) eventlog.Follower {
	t.Helper()
	f, err := e.s.Follow(e.ctx, log, after)
	if err != nil {
		t.Fatalf("Follow %s from %v: %v", log, after, err)
	}
	return f
}

func (e *env) trim(t *testing.T, log eventlog.Name, before eventlog.Offset) {
	t.Helper()
	if err := e.s.Trim(e.ctx, log, before); err != nil {
		t.Fatalf("Trim %s before %v: %v", log, before, err)
	}
}

// append appends n bodies "log/epoch/i" and returns their offsets.
func (e *env) append(t *testing.T, w eventlog.Writer, n int) []eventlog.Offset {
	t.Helper()
	var offsets []eventlog.Offset
	for i := range n {
		o, err := w.Append(e.ctx, []byte(fmt.Sprintf("%d/%d", w.Fence().Epoch, i)), eventlog.Offset{})
		if err != nil {
			t.Fatalf("Append %d: %v", i, err)
		}
		offsets = append(offsets, o)
	}
	return offsets
}

// read returns all records of a log behind after, up to its newest, with
// bodies of their own, and checks their chain. The chain of the first can be
// checked only where after is zero.
func (e *env) read(t *testing.T, log eventlog.Name, after eventlog.Offset) []eventlog.Record {
	t.Helper()
	last := e.status(t, log).Last
	f := e.follow(t, log, after)
	defer f.Close()
	var recs []eventlog.Record
	for at := after; at.Less(last); {
		got, _, err := f.Next(e.ctx)
		if err != nil {
			t.Fatalf("Next behind %v: %v", at, err)
		}
		for _, r := range got {
			r.Body = bytes.Clone(r.Body)
			recs = append(recs, r)
			at = r.Offset
		}
	}
	checkChain(t, after, recs)
	return recs
}

// checkChain checks what holds of any records that stand one behind another,
// the first behind after.
func checkChain(t testing.TB, after eventlog.Offset, recs []eventlog.Record) {
	t.Helper()
	var chain eventlog.Chain
	for i := range recs {
		r := &recs[i]
		if i > 0 || after.IsZero() {
			if want := eventlog.NextChain(chain, r); r.Chain != want {
				t.Errorf("record %v: chain %x, want %x", r.Offset, r.Chain, want)
			}
		}
		first := i == 0 && after.IsZero()
		if first != (r.Kind == eventlog.Genesis) || first && r.Offset != eventlog.GenesisOffset {
			t.Errorf("record %d behind %v is %v of kind %d", i, after, r.Offset, r.Kind)
		}
		if !first && !r.Offset.Follows(after) {
			t.Errorf("record %v stands behind %v", r.Offset, after)
		}
		if r.Prev != after {
			t.Errorf("record %v: Prev %v, want %v", r.Offset, r.Prev, after)
		}
		if (r.Kind == eventlog.Fence) != (r.Offset.Seq == 0) {
			t.Errorf("record %v is of kind %d", r.Offset, r.Kind)
		}
		if !r.Mark.Less(r.Offset) {
			t.Errorf("record %v: Mark %v is not before it", r.Offset, r.Mark)
		}
		if len(r.Body) > 0 && (r.Kind == eventlog.Fence || r.Kind == eventlog.Mark) {
			t.Errorf("record %v of kind %d has a body", r.Offset, r.Kind)
		}
		after, chain = r.Offset, r.Chain
	}
}

// data returns the data records among recs.
func data(recs []eventlog.Record) []eventlog.Record {
	var out []eventlog.Record
	for _, r := range recs {
		if r.Kind == eventlog.Data {
			out = append(out, r)
		}
	}
	return out
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}
