//go:build unix

package endtoend

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A histogram counts durations of 1 µs to a minute. Its zero value is empty.
type histogram struct{ h *hdrhistogram.Histogram }

func (h *histogram) record(d time.Duration) {
	if h.h == nil {
		h.h = hdrhistogram.New(1, time.Minute.Microseconds(), 3)
	}
	_ = h.h.RecordValue(min(max(1, d.Microseconds()), time.Minute.Microseconds())) // within bounds: can't fail
}

func (h *histogram) add(o histogram) {
	if o.h == nil {
		return
	}
	if h.h == nil {
		h.h = hdrhistogram.New(1, time.Minute.Microseconds(), 3)
	}
	h.h.Merge(o.h)
}

// us returns a quantile, 0 to 100, in microseconds.
func (h *histogram) us(q float64) float64 {
	if h.h == nil {
		return 0
	}
	return float64(h.h.ValueAtQuantile(q))
}

func (h *histogram) count() int64 {
	if h.h == nil {
		return 0
	}
	return h.h.TotalCount()
}
