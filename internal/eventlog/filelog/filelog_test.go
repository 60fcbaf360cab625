package filelog

import (
	"context"
	"errors"
	"testing"

	"github.com/veltrix/cairn/internal/eventlog"
)

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, eventlog.ErrInUse) {
		t.Fatalf("second open: %v", err)
	}
	if err := s.Provision(ctx, eventlog.Spec{Name: "s00"}, eventlog.Spec{Name: "standings", Volatile: true}); err != nil {
		t.Fatal(err)
	}
	w, err := s.Open(ctx, "s00")
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := w.Append(ctx, []byte("hi"), eventlog.Offset{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, ro := range []bool{true, false} {
		s, err = Open(dir, Options{ReadOnly: ro})
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.Follow(ctx, "s00", eventlog.Offset{})
		if err != nil {
			t.Fatal(err)
		}
		recs, durable, err := f.Next(ctx)
		if err != nil || len(recs) != 12 || durable != (eventlog.Offset{Epoch: 1, Seq: 10}) {
			t.Fatal(len(recs), durable, err)
		}
		s.Close()
	}
}
