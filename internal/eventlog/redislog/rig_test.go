package redislog

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

// A rig is a store on a real server, with the log s00 and a writer of it.
type rig struct {
	t    *testing.T
	ctx  context.Context
	node *redistest.Server
	s    *Store
	w    eventlog.Writer
}

func newRig(t *testing.T, node *redistest.Server, url string, opts Options) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	r := &rig{t: t, ctx: ctx, node: node}
	if opts.Prefix == "" {
		opts.Prefix = newPrefix()
	}
	r.s = mustOpen(t, url, opts)
	t.Cleanup(func() { r.s.Close() })
	if err := r.s.Provision(ctx, eventlog.Spec{Name: "s00"}); err != nil {
		t.Fatal(err)
	}
	r.w = r.open(r.s)
	return r
}

func (r *rig) open(s *Store) eventlog.Writer {
	r.t.Helper()
	w, err := s.Open(r.ctx, "s00")
	if err != nil {
		r.t.Fatalf("Open: %v", err)
	}
	return w
}

// second opens the same logs by another store, directly.
func (r *rig) second() *Store {
	r.t.Helper()
	opts := r.s.opts
	opts.ResolveMax, opts.ReplyMax = 0, 0 // what mustOpen has
	s := mustOpen(r.t, r.node.URL(), opts)
	r.t.Cleanup(func() { s.Close() })
	return s
}

func (r *rig) key() string { return r.s.key("s00") }

func (r *rig) append(body string) eventlog.Offset {
	r.t.Helper()
	o, err := r.w.Append(r.ctx, []byte(body), eventlog.Offset{})
	if err != nil {
		r.t.Fatalf("Append %s: %v", body, err)
	}
	return o
}

func (r *rig) refuse(body string, want error) {
	r.t.Helper()
	if o, err := r.w.Append(r.ctx, []byte(body), eventlog.Offset{}); !errors.Is(err, want) {
		r.t.Fatalf("Append %s: %v, %v, want %v", body, o, err, want)
	}
}

// bodies reads a log from its base through a store of its own, which checks
// offsets and chain, and returns the bodies of its data records.
func (r *rig) bodies() []string {
	r.t.Helper()
	s := r.second()
	st, err := s.Status(r.ctx, "s00")
	if err != nil {
		r.t.Fatal(err)
	}
	f, err := s.Follow(r.ctx, "s00", st.Base)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for at := st.Base; at.Less(st.Last); {
		recs, _, err := f.Next(r.ctx)
		if err != nil {
			r.t.Fatalf("Next behind %v: %v", at, err)
		}
		for _, rec := range recs {
			if at = rec.Offset; rec.Kind == eventlog.Data {
				out = append(out, string(rec.Body))
			}
		}
	}
	return out
}

func (r *rig) want(bodies ...string) {
	r.t.Helper()
	if got := r.bodies(); strings.Join(got, " ") != strings.Join(bodies, " ") {
		r.t.Errorf("the log has %q, want %q", got, bodies)
	}
}

// follow returns a follower that has read up to the given offset.
func (r *rig) follow(upTo eventlog.Offset) eventlog.Follower {
	r.t.Helper()
	f, err := r.s.Follow(r.ctx, "s00", eventlog.Offset{})
	if err != nil {
		r.t.Fatal(err)
	}
	for at := (eventlog.Offset{}); at.Less(upTo); {
		recs, _, err := f.Next(r.ctx)
		if err != nil {
			r.t.Fatal(err)
		}
		at = recs[len(recs)-1].Offset
	}
	return f
}

// fails reads on until an error, and checks which.
func (r *rig) fails(f eventlog.Follower, want error) {
	r.t.Helper()
	for {
		if _, _, err := f.Next(r.ctx); err != nil {
			if !errors.Is(err, want) {
				r.t.Errorf("Next: %v, want %v", err, want)
			}
			return
		}
	}
}

// quiet is an idle writer's mark put off, where a test changes the log by hand.
var quiet = Options{MarkAfter: time.Hour}
