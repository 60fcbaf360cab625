//go:build unix

package lab

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is a role as well: the labs of these tests have the test's own
// binary for a cairn.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains(append(Roles, "log", "hunt", "verify"), os.Args[1]) {
		os.Exit(pretend(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// newLab makes a lab that ends with the test.
func newLab(t *testing.T) *Lab {
	t.Helper()
	bin, err := os.Executable()
	must(t, err)
	l, err := New(Options{Bin: bin})
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestClose: nothing is left, whatever state it is in, and nothing starts any
// more.
func TestClose(t *testing.T) {
	l := newLab(t)
	r, err := l.StartRedis(t.Context(), "redis")
	must(t, err)
	must(t, r.Pause())
	must(t, l.Close())
	if r.Running() {
		t.Error("it runs still")
	}
	if _, err := os.Stat(l.Dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
	if err := r.Restart(t.Context()); err == nil || r.Running() {
		t.Errorf("it was started in a closed lab: %v", err)
	}
}

// TestSweep: what a lab left behind is ended, and another process that has the
// id of one of its by now is not.
func TestSweep(t *testing.T) {
	ctx := t.Context()
	l := newLab(t)
	left, err := l.StartRedis(ctx, "left")
	must(t, err)
	other := newLab(t)
	innocent, err := other.StartRedis(ctx, "innocent")
	must(t, err)
	id := Identify(innocent.Pid())
	if !id.Alive() || id.Command == "" {
		t.Errorf("%+v; want it alive, with its command", id)
	}
	id.Started += "0" // as one that had the id before
	must(t, l.record(id))
	n, err := Sweep(l.Dir)
	must(t, err)
	<-left.Done()
	if n != 1 || left.Running() || !innocent.Running() {
		t.Errorf("%d ended; it runs: %v, another with the id of an old one: %v; want 1, false, true", n, left.Running(), innocent.Running())
	}
	if n, err := Sweep(l.Dir); n != 0 || err != nil {
		t.Errorf("again: %d, %v; want nothing to do", n, err)
	}
	mine := filepath.Join(t.TempDir(), "mine")
	must(t, os.Mkdir(mine, 0o755))
	if _, err := Sweep(mine); err == nil {
		t.Error("a folder that is not a lab's was swept")
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}

// TestStartFailure: an error says what the program said.
func TestStartFailure(t *testing.T) {
	l := newLab(t)
	_, err := l.StartRedis(t.Context(), "redis", "--maxmemory-policy", "often")
	if err == nil || !contains(err, "maxmemory-policy") {
		t.Errorf("%v; want the end of its log", err)
	}
	if n := len(l.Processes()); n != 0 {
		t.Errorf("%d processes are left; want none", n)
	}
	if _, err := l.StartRole(t.Context(), "claims", "claims-1", "--fail"); err == nil || !contains(err, "asked to fail") || errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v; want the end of its log", err)
	}
}
