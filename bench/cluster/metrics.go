//go:build unix

package main

import (
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// A sample is what a process measured up to one moment.
type sample struct {
	at       time.Time
	families map[string]*dto.MetricFamily
}

// sum adds up a family's counters, gauges or counts of histograms, those whose labels are as wanted:
// pairs of a name and a value.
func (s sample) sum(name string, labels ...string) float64 {
	total := 0.0
	for _, m := range s.families[name].GetMetric() {
		if matches(m, labels) {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return total
}

// most returns the largest value of a family's gauges, and whether it has any.
func (s sample) most(name string) (float64, bool) {
	most, found := math.Inf(-1), false
	for _, m := range s.families[name].GetMetric() {
		most, found = max(most, m.GetGauge().GetValue()), true
	}
	return most, found
}

func matches(m *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		if !slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == labels[i] && l.GetValue() == labels[i+1] }) {
			return false
		}
	}
	return true
}

// A window is the samples of the last seconds of one life of a process.
type window struct {
	samples []sample
	starts  int // the life that they are of
}

// windowLength is over which time rates and quantiles are taken.
const windowLength = 5 * time.Second

func (w *window) add(s sample, starts int) {
	if starts != w.starts {
		w.samples, w.starts = nil, starts
	}
	w.samples = append(w.samples, s)
	for len(w.samples) > 2 && s.at.Sub(w.samples[1].at) >= windowLength {
		w.samples = w.samples[1:]
	}
}

// rate returns how fast a counter, or the count of a histogram, grows a second.
func (w *window) rate(name string, labels ...string) float64 {
	first, last := w.samples[0], w.samples[len(w.samples)-1]
	d := last.at.Sub(first.at).Seconds()
	if d <= 0 {
		return 0
	}
	return max(0, (last.sum(name, labels...)-first.sum(name, labels...))/d)
}

// quantile returns, of what a histogram saw in the window, the upper bound of
// the bucket with the q-quantile, in milliseconds: never better than the truth.
// It is -1 if the histogram saw nothing.
func (w *window) quantile(q float64, name string) float64 {
	first, last := buckets(w.samples[0].families[name]), buckets(w.samples[len(w.samples)-1].families[name])
	var uppers []float64
	total := 0.0
	for upper, n := range last {
		uppers = append(uppers, upper)
		total = max(total, n-first[upper])
	}
	if total <= 0 {
		return -1
	}
	slices.Sort(uppers)
	for i, upper := range uppers {
		if last[upper]-first[upper] >= q*total {
			if math.IsInf(upper, 1) && i > 0 { // beyond the last bound: at least that
				upper = uppers[i-1]
			}
			return upper * 1000
		}
	}
	return -1
}

// buckets returns the cumulative counts of all the histograms of a family
// together, by upper bound.
func buckets(f *dto.MetricFamily) map[float64]float64 {
	at := map[float64]float64{}
	for _, m := range f.GetMetric() {
		for _, b := range m.GetHistogram().GetBucket() {
			at[b.GetUpperBound()] += float64(b.GetCumulativeCount())
		}
	}
	return at
}
