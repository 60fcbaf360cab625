//go:build linux

package trial

import (
	"context"
	"math"
	"slices"

	dto "github.com/prometheus/client_model/go"
)

// A Staleness is what our gateways say of themselves: from the newest claim of
// a sweep until its frames were written to everyone. Quantiles are upper bounds
// of buckets: never better than the truth.
type Staleness struct {
	Sweeps int64   `json:"sweeps"` // of all gateways
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	P999   float64 `json:"p999_ms"`
}

const stalenessMetric = "cairn_broadcast_staleness_seconds"

// WatchStaleness reads the gateways' metrics; the function that it returns
// reads them again, and returns what came to them meanwhile.
func (t *Trial) WatchStaleness(ctx context.Context) (func(context.Context) (*Staleness, error), error) {
	before, err := t.buckets(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (*Staleness, error) {
		after, err := t.buckets(ctx)
		if err != nil {
			return nil, err
		}
		for bound, n := range before {
			after[bound] -= n
		}
		return &Staleness{
			Sweeps: int64(after[math.Inf(1)]),
			P50:    1000 * quantile(after, 0.5), P99: 1000 * quantile(after, 0.99), P999: 1000 * quantile(after, 0.999),
		}, nil
	}, nil
}

// buckets returns the cumulative counts of the staleness' histogram, of all
// gateways together, by upper bound in seconds.
func (t *Trial) buckets(ctx context.Context) (map[float64]uint64, error) {
	all, err := t.System.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	sum := map[float64]uint64{}
	for _, metrics := range all {
		addBuckets(sum, metrics[stalenessMetric])
	}
	return sum, nil
}

func addBuckets(sum map[float64]uint64, f *dto.MetricFamily) {
	for _, m := range f.GetMetric() {
		for _, b := range m.GetHistogram().GetBucket() {
			if !math.IsInf(b.GetUpperBound(), 1) {
				sum[b.GetUpperBound()] += b.GetCumulativeCount()
			}
		}
		sum[math.Inf(1)] += m.GetHistogram().GetSampleCount()
	}
}

// quantile returns the least bound that a part q of all do not exceed, the
// largest finite one where there is none; 0 of nothing.
func quantile(cumulative map[float64]uint64, q float64) float64 {
	var bounds []float64
	for b := range cumulative {
		if !math.IsInf(b, 1) {
			bounds = append(bounds, b)
		}
	}
	slices.Sort(bounds)
	all := cumulative[math.Inf(1)]
	if all == 0 || len(bounds) == 0 {
		return 0
	}
	for _, b := range bounds {
		if float64(cumulative[b]) >= q*float64(all) {
			return b
		}
	}
	return bounds[len(bounds)-1]
}

// Closes returns how many connections the gateways ended so far, by why.
func (t *Trial) Closes(ctx context.Context) (map[string]int64, error) {
	all, err := t.System.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	sum := map[string]int64{}
	for _, metrics := range all {
		for _, m := range metrics["cairn_broadcast_closes_total"].GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" {
					sum[l.GetValue()] += int64(m.GetCounter().GetValue())
				}
			}
		}
	}
	return sum, nil
}
