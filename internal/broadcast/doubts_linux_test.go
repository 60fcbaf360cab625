package broadcast

import (
	"testing"
)

// The tests here each settle one doubt about the loops: what must hold however
// readiness, sweeps and goodbyes interleave.

// newLoopIn returns a loop that is not run: the test does what its goroutine
// would do.
func newLoopIn(t *testing.T, h *Hub) *loop {
	t.Helper()
	l, err := newLoop(h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// TestBellRingsForEver: a sweep wakes its loop however many came before it.
func TestBellRingsForEver(t *testing.T) {
	l := newLoopIn(t, newBenchHub(t, 1, 1).Hub)
	for i := range 100_000 {
		l.ring()
		if n := epollWait(l.epfd, &l.events); n != 1 || l.events[0].Fd != bellSlot {
			t.Fatalf("ring %d: got %d events, want the bell's", i, n)
		}
	}
}
