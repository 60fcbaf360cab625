// Package hpa is the arithmetic of Kubernetes' HorizontalPodAutoscaler, for
// metrics that are sums over all pods with a target for one (AverageValue), as
// KEDA's triggers are. It has no clock and talks to nobody: `cairn simulate` and
// bench/autoscale call it with their own.
//
// It follows pkg/controller/podautoscaler of Kubernetes 1.30
// (replica_calculator.go, GetExternalPerPodMetricReplicas; horizontal.go,
// normalizeDesiredReplicasWithBehaviors).
package hpa

import (
	"math"
	"slices"
	"time"
)

// Tolerance is how far from its target a metric may be before anything is done:
// what kube-controller-manager has by default.
const Tolerance = 0.1

// A Metric is what one trigger found.
type Metric struct {
	Sum    float64 // of all pods together; NaN: it could not be found out
	Target float64 // for one pod; above 0
}

// Desired returns how many pods the metrics ask for, where there are current of
// them, and at least one. Each metric proposes so many that none has more than
// its target, or leaves things as they are if that is within the tolerance; the
// largest proposal counts. One that is not known lets nothing be ended.
func Desired(current int, metrics []Metric) int {
	wanted, unknown := 0, len(metrics) == 0
	for _, m := range metrics {
		switch ratio := m.Sum / (m.Target * float64(current)); {
		case math.IsNaN(ratio):
			unknown = true
		case math.Abs(1-ratio) <= Tolerance+rounding:
			wanted = max(wanted, current)
		default:
			// Kubernetes reckons in thousandths, so that 3 × 0.1 over 0.1 is 3.
			wanted = max(wanted, int(min(1e6, math.Ceil(m.Sum/m.Target-rounding))))
		}
	}
	if unknown {
		wanted = max(wanted, current)
	}
	return wanted
}

// rounding is how far binary fractions may be off.
const rounding = 1e-9

// What a policy counts in, and which of several counts.
const (
	Pods    = "Pods"
	Percent = "Percent"

	Most     = "Max" // the policy that changes most
	Least    = "Min"
	Disabled = "Disabled"
)

// A Policy bounds how many pods may come, or go, within a period.
type Policy struct {
	Type   string // Pods or Percent, of those at the period's beginning
	Value  int
	Period time.Duration
}

// Rules say how fast pods come, or go.
type Rules struct {
	Window   time.Duration // only what was wanted for so long is done
	Select   string        // Most, Least or Disabled; "" means Most
	Policies []Policy
}

// A Behavior is a HorizontalPodAutoscaler's.
type Behavior struct {
	Up, Down Rules
}

// DefaultBehavior is that of an autoscaler which says nothing of it.
func DefaultBehavior() Behavior {
	return Behavior{
		Up:   Rules{Policies: []Policy{{Pods, 4, 15 * time.Second}, {Percent, 100, 15 * time.Second}}},
		Down: Rules{Window: 5 * time.Minute, Policies: []Policy{{Percent, 100, 15 * time.Second}}},
	}
}

// Hurried returns the same where time passes so many times as fast.
func (b Behavior) Hurried(times float64) Behavior {
	faster := func(d time.Duration) time.Duration { return time.Duration(float64(d) / times) }
	of := func(r Rules) Rules {
		r.Window, r.Policies = faster(r.Window), slices.Clone(r.Policies)
		for i := range r.Policies {
			r.Policies[i].Period = faster(r.Policies[i].Period)
		}
		return r
	}
	return Behavior{of(b.Up), of(b.Down)}
}

// A Scaler decides how many pods there are to be, look by look. It is no more
// than what it remembers of the looks before. Least and Most bound its answers.
type Scaler struct {
	Least, Most int
	Behavior    Behavior

	wants   []want
	changes []change
}

// A want is what a look asked for.
type want struct {
	at   time.Duration
	pods int
}

// A change is how many pods a look had come, or go if less than 0.
type change struct {
	at   time.Duration
	pods int
}

// Next returns how many pods there are to be at a moment, since whenever, where
// there are current of them and wanted are asked for ([Desired]). The caller
// starts and ends pods accordingly: it counts as done. Moments never go back.
func (s *Scaler) Next(now time.Duration, current, wanted int) int {
	switch {
	case current > s.Most:
		wanted = s.Most
	case current < s.Least:
		wanted = s.Least
	default:
		wanted = s.paced(now, current, s.steady(now, current, wanted))
	}
	if wanted != current {
		s.changes = append(s.changes, change{now, wanted - current})
	}
	s.forget(now)
	return wanted
}

// steady returns what was wanted throughout the windows: for more pods the least
// of what was asked for, for fewer the most.
func (s *Scaler) steady(now time.Duration, current, wanted int) int {
	s.wants = append(s.wants, want{now, wanted})
	up, down := wanted, wanted
	for _, w := range s.wants {
		if w.at > now-s.Behavior.Up.Window {
			up = min(up, w.pods)
		}
		if w.at > now-s.Behavior.Down.Window {
			down = max(down, w.pods)
		}
	}
	return min(max(current, up), down)
}

// paced returns what of it the policies and the bounds allow now.
func (s *Scaler) paced(now time.Duration, current, wanted int) int {
	switch {
	case wanted > current:
		return min(wanted, s.Most, max(current, s.ceiling(now, current)))
	case wanted < current:
		return max(wanted, s.Least, min(current, s.floor(now, current)))
	}
	return current
}

// ceiling returns how many pods the policies let there be at most.
func (s *Scaler) ceiling(now time.Duration, current int) int {
	var limits []int
	for _, p := range s.Behavior.Up.Policies {
		at := s.before(now, current, p.Period)
		if p.Type == Percent {
			limits = append(limits, int(math.Ceil(float64(at)*(1+float64(p.Value)/100)-rounding)))
		} else {
			limits = append(limits, at+p.Value)
		}
	}
	return selected(s.Behavior.Up.Select, current, limits, slices.Max[[]int], slices.Min[[]int])
}

// floor returns how many pods the policies let there be at least.
func (s *Scaler) floor(now time.Duration, current int) int {
	var limits []int
	for _, p := range s.Behavior.Down.Policies {
		at := s.before(now, current, p.Period)
		if p.Type == Percent {
			limits = append(limits, int(float64(at)*(1-float64(p.Value)/100)+rounding))
		} else {
			limits = append(limits, at-p.Value)
		}
	}
	return selected(s.Behavior.Down.Select, current, limits, slices.Min[[]int], slices.Max[[]int])
}

// selected returns the limit that counts.
func selected(by string, current int, limits []int, most, least func([]int) int) int {
	switch {
	case by == Disabled || len(limits) == 0:
		return current
	case by == Least:
		return least(limits)
	}
	return most(limits)
}

// before returns how many pods there were when the period began.
func (s *Scaler) before(now time.Duration, current int, period time.Duration) int {
	for _, c := range s.changes {
		if c.at > now-period {
			current -= c.pods
		}
	}
	return current
}

// forget drops what no window or period reaches any more.
func (s *Scaler) forget(now time.Duration) {
	longest := max(s.Behavior.Up.Window, s.Behavior.Down.Window)
	for _, p := range slices.Concat(s.Behavior.Up.Policies, s.Behavior.Down.Policies) {
		longest = max(longest, p.Period)
	}
	s.wants = slices.DeleteFunc(s.wants, func(w want) bool { return w.at <= now-longest })
	s.changes = slices.DeleteFunc(s.changes, func(c change) bool { return c.at <= now-longest })
}
