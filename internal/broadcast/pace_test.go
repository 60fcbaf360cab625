package broadcast

import "testing"

// TestPace: while deliveries are under way, newcomers get their share of the
// rounds, and what they did not use is saved up, to a bound.
func TestPace(t *testing.T) {
	p := &Pace{}
	for _, c := range []struct {
		done uint64
		want int
	}{
		{0, 0},
		{1, paceShare},
		{1, 0},
		{4, 3 * paceShare},
		{1000, paceMost},
		{1001, paceShare},
	} {
		got := 0
		for p.allowed(c.done) {
			got++
		}
		if got != c.want {
			t.Errorf("after %d rounds: %d are let in, want %d", c.done, got, c.want)
		}
	}
}
