package mapgen

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn"
)

type metrics struct {
	lateness prometheus.Histogram
	emitted  prometheus.Counter
	skipped  prometheus.Counter
	late     prometheus.Counter
	left     *prometheus.GaugeVec
	offered  *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		lateness: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "cairn_map_lateness_seconds",
			Help:                        "From when a map was due (its opening less the lead) until the log acknowledged it.",
			Buckets:                     []float64{.001, .0025, .005, .01, .025, .05, .1, .15, .25, .4, 1, 2.5, 10},
			NativeHistogramBucketFactor: 1.1,
		}),
		emitted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_maps_emitted_total",
			Help: "Maps emitted.",
		}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_ticks_skipped_total",
			Help: "Ticks of live hunts that were missed until their maps would have been closed.",
		}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_late_claims_total",
			Help: "Claims that came after what their map did not give away was offered again. A shard's owner broke its promise.",
		}),
		left: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cairn_budget_left_micros",
			Help: "What is left of a hunt's budget for its next map, in micro-units.",
		}, []string{"hunt"}),
		offered: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cairn_budget_offered_micros",
			Help: "What a hunt's maps that are not settled offer and nobody claimed, in micro-units.",
		}, []string{"hunt"}),
	}
	if reg != nil {
		reg.MustRegister(m.lateness, m.emitted, m.skipped, m.late, m.left, m.offered)
	}
	return m
}

func (m *metrics) forget(id cairn.HuntID) {
	m.left.DeleteLabelValues(string(id))
	m.offered.DeleteLabelValues(string(id))
}
