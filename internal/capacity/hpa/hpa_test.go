package hpa

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestDesired(t *testing.T) {
	for _, c := range []struct {
		what    string
		current int
		metrics []Metric
		want    int
	}{
		{"no metric changes nothing", 3, nil, 3},
		{"on target", 2, []Metric{{2, 1}}, 2},
		{"a tenth above is tolerated", 2, []Metric{{2.2, 1}}, 2},
		{"a little more is not", 2, []Metric{{2.21, 1}}, 3},
		{"a tenth below is tolerated", 10, []Metric{{9, 1}}, 10},
		{"a little less is not", 10, []Metric{{8.9, 1}}, 9},
		{"parts of a pod are a pod", 1, []Metric{{1.2, 0.6}}, 2},
		{"thousandths are no part of a pod", 1, []Metric{{0.1 + 0.2, 0.1}}, 3},
		{"nothing to do wants nobody", 4, []Metric{{0, 1}}, 0},
		{"the largest counts", 2, []Metric{{1, 1}, {70, 10}, {3, 1}}, 7},
		{"one within the tolerance holds what there is", 4, []Metric{{0, 1}, {4.1, 1}}, 4},
		{"one that is not known ends nothing", 4, []Metric{{1, 1}, {math.NaN(), 1}}, 4},
		{"and starts what the others want", 4, []Metric{{9, 1}, {math.NaN(), 1}}, 9},
		{"infinitely many are a lot", 1, []Metric{{math.Inf(1), 1}}, 1e6},
	} {
		if got := Desired(c.current, c.metrics); got != c.want {
			t.Errorf("%s: Desired(%d, %v) = %d, want %d", c.what, c.current, c.metrics, got, c.want)
		}
	}
}

// play returns how many pods there are after each look, of which there is one a
// second.
func play(s *Scaler, current int, wanted ...int) []int {
	var got []int
	for i, w := range wanted {
		current = s.Next(time.Duration(i)*time.Second, current, w)
		got = append(got, current)
	}
	return got
}

func TestScaler(t *testing.T) {
	at := func(window time.Duration, policies ...Policy) Rules { return Rules{Window: window, Policies: policies} }
	free := at(0, Policy{Percent, 1000, time.Second})
	for _, c := range []struct {
		what        string
		scaler      Scaler
		current     int
		wanted, got []int
	}{
		{"bounds hold", Scaler{Least: 2, Most: 5, Behavior: Behavior{free, at(0, Policy{Percent, 100, time.Second})}}, 3, []int{9, 9, 0, 0}, []int{5, 5, 2, 2}},
		{"one out of bounds is brought back at once", Scaler{Least: 2, Most: 5, Behavior: Behavior{}}, 9, []int{9, 9}, []int{5, 5}},
		{"of pods and of a percentage the larger counts", Scaler{Least: 1, Most: 99, Behavior: Behavior{Up: at(0, Policy{Pods, 3, time.Second}, Policy{Percent, 100, time.Second})}}, 1, []int{99, 99, 99}, []int{4, 8, 16}},
		{"or the smaller", Scaler{Least: 1, Most: 99, Behavior: Behavior{Up: Rules{Select: Least, Policies: []Policy{{Pods, 3, time.Second}, {Percent, 100, time.Second}}}}}, 1, []int{99, 99, 99}, []int{2, 4, 7}},
		{"a percentage is rounded up", Scaler{Least: 1, Most: 99, Behavior: Behavior{Up: at(0, Policy{Percent, 10, time.Second})}}, 1, []int{99, 99}, []int{2, 3}},
		{"within a period no more come", Scaler{Least: 1, Most: 99, Behavior: Behavior{Up: at(0, Policy{Pods, 2, 3 * time.Second})}}, 1, []int{99, 99, 99, 99}, []int{3, 3, 3, 5}},
		{"what is wanted less for a moment ends nothing", Scaler{Least: 1, Most: 9, Behavior: Behavior{free, at(3*time.Second, Policy{Percent, 100, time.Second})}}, 4, []int{4, 1, 1, 4, 1, 1, 1}, []int{4, 4, 4, 4, 4, 4, 1}},
		{"as little as was wanted throughout", Scaler{Least: 1, Most: 9, Behavior: Behavior{free, at(2*time.Second, Policy{Percent, 100, time.Second})}}, 6, []int{5, 2, 3, 1, 1}, []int{5, 5, 3, 3, 1}},
		{"one goes a period", Scaler{Least: 1, Most: 9, Behavior: Behavior{free, at(0, Policy{Pods, 1, 2 * time.Second})}}, 4, []int{1, 1, 1, 1, 1}, []int{3, 3, 2, 2, 1}},
		{"what is wanted more for a moment starts nothing", Scaler{Least: 1, Most: 9, Behavior: Behavior{Up: at(2*time.Second, Policy{Pods, 9, time.Second})}}, 1, []int{1, 5, 1, 5, 5}, []int{1, 1, 1, 1, 5}},
		{"nothing ends where that is disabled", Scaler{Least: 1, Most: 9, Behavior: Behavior{Down: Rules{Select: Disabled, Policies: []Policy{{Pods, 9, time.Second}}}}}, 4, []int{1, 1}, []int{4, 4}},
	} {
		if got := play(&c.scaler, c.current, c.wanted...); !slices.Equal(got, c.got) {
			t.Errorf("%s: %d pods, wanted %v: got %v, want %v", c.what, c.current, c.wanted, got, c.got)
		}
	}
}

// TestForgets holds that a scaler does not grow with time.
func TestForgets(t *testing.T) {
	s := Scaler{Least: 1, Most: 9, Behavior: DefaultBehavior().Hurried(60)}
	current := 1
	for i := range 1000 {
		current = s.Next(time.Duration(i)*time.Second, current, 1+i%9)
	}
	if n := len(s.wants) + len(s.changes); n > 20 {
		t.Errorf("after 1000 looks it remembers %d things, want those of the last 5 s", n)
	}
}

func TestHurried(t *testing.T) {
	b := DefaultBehavior()
	got := b.Hurried(15)
	if w := got.Down.Window; w != 20*time.Second {
		t.Errorf("window %v, want 20s", w)
	}
	if p := got.Up.Policies[0].Period; p != time.Second {
		t.Errorf("period %v, want 1s", p)
	}
	if p := b.Up.Policies[0].Period; p != 15*time.Second {
		t.Errorf("the original's period is %v, want 15s as before", p)
	}
}
