package redisreg

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
	"github.com/veltrix/cairn/internal/fleet"
)

func open(t *testing.T, url string) *Registry {
	t.Helper()
	r, err := Open(url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func members(t *testing.T, r *Registry, role string) map[string]fleet.Member {
	t.Helper()
	ms, err := r.Members(t.Context(), role)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]fleet.Member{}
	for _, m := range ms {
		byName[m.Name] = m
	}
	return byName
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not %s after a minute", what)
		}
	}
}

// TestLeases has members come, change, run out and leave.
func TestLeases(t *testing.T) {
	// A client of a Cluster lingers for 5 s over nodes that have gone: those of
	// other tests are not this one's.
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	r := open(t, redistest.Start(t).URL())
	ctx := t.Context()
	beat := func(role string, m fleet.Member, ttl time.Duration) {
		t.Helper()
		if _, err := r.Beat(ctx, role, m, ttl); err != nil {
			t.Fatal(err)
		}
	}
	if got := members(t, r, "claims"); len(got) != 0 {
		t.Errorf("of none: got %v", got)
	}
	a := fleet.Member{Name: "10.0.0.1:7000", Life: "one", Addr: "10.0.0.1:7000", State: fleet.Live, Beat: 7, Serves: []int{0, 63}}
	b := fleet.Member{Name: "b", Life: "two", State: fleet.Warming, Beat: 1}
	beat("claims", a, time.Minute)
	beat("claims", b, 50*time.Millisecond)
	beat("gateway", fleet.Member{Name: "g"}, time.Minute)
	got := members(t, r, "claims")
	if diff := cmp.Diff(a, got["10.0.0.1:7000"]); diff != "" {
		t.Errorf("a member changed on its way (-want +got):\n%s", diff)
	}
	if len(members(t, r, "gateway")) != 1 {
		t.Error("roles are not apart")
	}
	until(t, "run out", func() bool { return len(members(t, r, "claims")) == 1 })

	for _, want := range []bool{false, true} {
		if renewed, err := r.Beat(ctx, "claims", b, time.Minute); err != nil || renewed != want {
			t.Errorf("a beat after the lease ran out, and the next: got renewed %v (%v), want %v", renewed, err, want)
		}
	}
	if err := r.Leave(ctx, "claims", b); err != nil {
		t.Fatal(err)
	}

	other := a
	other.Life = "another"
	if err := r.Leave(ctx, "claims", other); err != nil || len(members(t, r, "claims")) != 1 {
		t.Errorf("another life of the same name left: got %v (%v), want the one still there", members(t, r, "claims"), err)
	}
	if err := r.Leave(ctx, "claims", a); err != nil || len(members(t, r, "claims")) != 0 {
		t.Errorf("after it left: got %v (%v), want none", members(t, r, "claims"), err)
	}
	if err := r.Leave(ctx, "claims", a); err != nil {
		t.Errorf("to leave twice: %v", err)
	}
}

// TestForget drops names that have long had no lease.
func TestForget(t *testing.T) {
	r := open(t, redistest.Start(t).URL())
	ctx := t.Context()
	if _, err := r.Beat(ctx, "claims", fleet.Member{Name: "a"}, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	until(t, "run out", func() bool { return len(members(t, r, "claims")) == 0 })
	count := func() int64 {
		n, err := r.client.Do(ctx, r.client.B().Scard().Key("cairn:{fleet}:claims").Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if count() != 1 {
		t.Error("a name was forgotten at once")
	}
	r.mu.Lock()
	for key := range r.lack {
		r.lack[key] = time.Now().Add(-2 * forgetAfter)
	}
	r.mu.Unlock()
	if members(t, r, "claims"); count() != 0 {
		t.Error("a name was not forgotten")
	}
}

// TestAway asks a Redis that is stopped, and comes back: calls end with their
// context, and then all goes on.
func TestAway(t *testing.T) {
	s := redistest.Start(t)
	r := open(t, s.URL())
	if _, err := r.Beat(t.Context(), "claims", fleet.Member{Name: "a"}, time.Minute); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Members(ctx, "claims"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it is stopped: got %v, want a deadline exceeded", err)
	}
	s.Continue()
	until(t, "back", func() bool {
		ms, err := r.Members(t.Context(), "claims")
		return err == nil && len(ms) == 1
	})
}

// TestConnections counts what Redis sees, against the budget.
func TestConnections(t *testing.T) {
	s := redistest.Start(t)
	r := open(t, s.URL())
	for range 100 {
		if _, err := r.Beat(t.Context(), "claims", fleet.Member{Name: "a"}, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	list, err := r.client.Do(t.Context(), r.client.B().ClientList().TypeNormal().Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	// redistest has one of its own.
	if n := strings.Count(list, "\n") - 1; n > Connections {
		t.Errorf("got %d connections, want at most %d:\n%s", n, Connections, list)
	}
}

func TestURL(t *testing.T) {
	for _, url := range []string{"", "localhost", "http://localhost", "redis://", "redis://h/x", "redis://:se%ret@h"} {
		if _, err := clientOption(url, nil); err == nil {
			t.Errorf("%q: got no error", url)
		}
	}
	o, err := clientOption("rediss://ana:secret@h1:7000,h2/?cluster", nil)
	if err != nil || o.Username != "ana" || o.Password != "secret" || len(o.InitAddress) != 2 || o.InitAddress[1] != "h2:6379" || o.TLSConfig == nil {
		t.Errorf("got %+v (%v)", o, err)
	}
}
