package main

import (
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
)

// TestRetention trims by age, and never past what is needed.
func TestRetention(t *testing.T) {
	ctx := t.Context()
	store, err := filelog.Open(t.TempDir(), filelog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	name := eventlog.Shard(0)
	if err := store.Provision(ctx, eventlog.Spec{Name: name}); err != nil {
		t.Fatal(err)
	}
	w, err := store.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r := newRetention(&game{store: store, opts: gameOptions{retention: time.Hour}})
	start := time.Now()
	at := func(epoch, seq uint64) eventlog.Offset { return eventlog.Offset{Epoch: epoch, Seq: seq} }
	for _, step := range []struct {
		after  time.Duration
		needed eventlog.Offset
		first  eventlog.Offset // held then
	}{
		{0, at(9, 0), at(1, 0)},
		{30 * time.Minute, at(9, 0), at(1, 0)},
		{60 * time.Minute, eventlog.Offset{}, at(1, 0)}, // old enough, but nobody has it yet
		{90 * time.Minute, at(1, 1), at(1, 1)},          // cut at what is needed
		{150 * time.Minute, at(9, 0), at(1, 4)},         // cut at the head of an hour ago
	} {
		if _, err := w.Append(ctx, []byte("x"), eventlog.Offset{}); err != nil {
			t.Fatal(err)
		}
		if err := r.trim(ctx, name, start.Add(step.after), step.needed); err != nil {
			t.Fatal(err)
		}
		st, err := store.Status(ctx, name)
		if err != nil || st.First != step.first {
			t.Errorf("after %v, needed %v: the oldest record is %v (%v), want %v", step.after, step.needed, st.First, err, step.first)
		}
	}
}
