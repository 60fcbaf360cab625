package broadcast

import "testing"

// TestStalledAreCutByAndBy: however many are to be cut, a check cuts so many,
// and the next checks the rest.
func TestStalledAreCutByAndBy(t *testing.T) {
	const n = cutsAtOnce + 10
	l := newLoopIn(t, newBenchHub(t, 1, 1).Hub)
	for range n {
		c, _ := adoptPair(t, l, nil)
		c.with(func(l *loop, r *record) {
			l.stall(c, r, nil)
			long := uint32(l.hub.opts.StuckFor.Milliseconds())
			st := l.stalls[c.slot]
			st.told, st.moved, st.began = true, st.moved-long, st.began-long
		})
	}
	for _, want := range []int{cutsAtOnce, n, n} {
		l.check()
		cut := 0
		for _, p := range l.handles(nil) {
			p.(handle).with(func(_ *loop, r *record) {
				if r.flags&flagEnded != 0 {
					cut++
				}
			})
		}
		if cut != want {
			t.Errorf("%d are cut by now, want %d", cut, want)
		}
	}
}

// TestStalledWaitForDeliveries: who is stuck is told so, and cut, when nothing
// is delivered any more, or when that has waited long enough.
func TestStalledWaitForDeliveries(t *testing.T) {
	l := newLoopIn(t, newBenchHub(t, 1, 1).Hub)
	c, _ := adoptPair(t, l, nil)
	stuck := uint32(l.hub.opts.StuckFor.Milliseconds())
	for _, test := range []struct {
		busy, told bool
		moved      uint32 // ms ago
		tells      bool
		cuts       bool
	}{
		{busy: true, moved: stuck + 1},
		{busy: false, moved: stuck + 1, tells: true},
		{busy: true, moved: stuck + stuck/8 + 1, tells: true},
		{busy: true, told: true, moved: stuck/2 + 1},
		{busy: true, told: true, moved: stuck + 1, cuts: true},
	} {
		l.busy.Store(test.busy)
		c.with(func(l *loop, r *record) {
			r.flags = r.flags&^flagBye | flagHello
			l.stall(c, r, nil)
			st := l.stalls[c.slot]
			st.told, st.moved, st.began = test.told, l.hub.clock()-test.moved, l.hub.clock()
		})
		l.check()
		c.with(func(l *loop, r *record) {
			cut := r.flags&flagEnded != 0
			if told := !cut && !test.told && l.stalls[c.slot].told; told != test.tells || cut != test.cuts {
				t.Errorf("%+v: told %v, cut %v", test, told, cut)
			}
		})
	}
}

// TestNoPingsBesideDeliveries: who is due for a ping gets it when nothing is
// delivered any more, or when it has waited long enough.
func TestNoPingsBesideDeliveries(t *testing.T) {
	l := newLoopIn(t, newBenchHub(t, 1, 1).Hub)
	c, fd := adoptPair(t, l, nil)
	every := uint32(l.hub.opts.PingEvery.Milliseconds())
	for _, test := range []struct {
		busy bool
		late uint32 // ms
		want string
	}{
		{true, 1, ""},
		{false, 1, string(pingBytes)},
		{true, every / 7, string(pingBytes)},
	} {
		l.busy.Store(test.busy)
		c.with(func(l *loop, r *record) {
			r.flags |= flagHello
			r.mark = l.hub.clock() - every - test.late
		})
		l.check()
		if got := string(drainFD(t, fd)); got != test.want {
			t.Errorf("busy %v, %d ms late: got %q, want %q", test.busy, test.late, got, test.want)
		}
	}
}
