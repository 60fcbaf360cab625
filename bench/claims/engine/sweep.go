//go:build unix

package engine

import (
	"cmp"
	"context"
	"slices"
)

// A Tried is what came of a number of attempts in flight.
type Tried struct {
	Name      string  `json:"name"`
	Callers   int     `json:"callers"`
	Size      int     `json:"batch"`
	PerSecond float64 `json:"attempts_per_s"` // of the uniform workload
	P99       float64 `json:"p99_us"`
}

// What a sweep tries, each with each.
var (
	sweepCallers = []int{2, 4, 8, 16, 32}
	sweepSizes   = []int{16, 64, 256, 1024}
)

// sweep returns what each contender does with different numbers of attempts in
// flight, and drives it from then on with those that it is fastest with.
func (b *bench) sweep(ctx context.Context, o *Options) ([]Tried, error) {
	w, err := newWorkload(Uniform, o.attempts(Uniform))
	if err != nil {
		return nil, err
	}
	var all []Tried
	for _, name := range o.Contenders {
		var tried []Tried
		for _, callers := range sweepCallers {
			for _, size := range sweepSizes {
				one := *o
				one.Callers, one.Size = callers, size
				x, err := b.measure(ctx, &one, name, w, 0, 0)
				if err != nil {
					return nil, err
				}
				tried = append(tried, Tried{name, callers, size, x.Flat.PerSecond, x.Flat.P99})
				o.Say("sweep: %-22s %2d × %4d: %9.0f attempts/s, p99 %.0f µs", name, callers, size, x.Flat.PerSecond, x.Flat.P99)
			}
		}
		best := fastest(tried)
		b.tuned[name] = best
		o.Say("sweep: %s is driven with %d × %d", name, best.Callers, best.Size)
		all = append(all, tried...)
	}
	return all, nil
}

// fastest returns the try with the most attempts a second; of those within a
// twentieth of it, which are as fast as it within what one try can tell, the one
// with the lowest p99.
func fastest(tried []Tried) Tried {
	most := slices.MaxFunc(tried, func(a, b Tried) int { return cmp.Compare(a.PerSecond, b.PerSecond) }).PerSecond
	near := slices.DeleteFunc(slices.Clone(tried), func(t Tried) bool { return t.PerSecond < 0.95*most })
	return slices.MinFunc(near, func(a, b Tried) int { return cmp.Compare(a.P99, b.P99) })
}
