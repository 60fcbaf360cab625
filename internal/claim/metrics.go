package claim

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/veltrix/cairn"
)

type metrics struct {
	outcomes  [cairn.Pending + 1]prometheus.Counter
	refused   prometheus.Counter
	lookups   prometheus.Counter
	takeovers prometheus.Counter
	duration  prometheus.Histogram
	batch     prometheus.Histogram
}

// durationBuckets has 8 ms, the objective: who counts what was answered within
// it counts one bucket, and reckons nothing.
var durationBuckets = []float64{
	.00005, .0001, .0002, .0003, .0005, .00075, .001, .0015, .002, .003, .004, .006,
	.008, .012, .016, .024, .032, .064, .125, .25, .5, 1, 2,
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	f := promauto.With(reg)
	claims := f.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_claims_total",
		Help: "Attempts answered, by outcome; unavailable ones took nothing.",
	}, []string{"outcome"})
	m := &metrics{
		refused: claims.WithLabelValues("unavailable"),
		lookups: f.NewCounter(prometheus.CounterOpts{
			Name: "cairn_claim_lookups_total",
			Help: "Times that somebody asked who holds a tile.",
		}),
		takeovers: f.NewCounter(prometheus.CounterOpts{
			Name: "cairn_claim_reopens_total",
			Help: "Times that a shard lost its writer and was opened again.",
		}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:                        "cairn_claim_duration_seconds",
			Help:                        "From the receipt of an attempt, or of a batch, to its answer.",
			Buckets:                     durationBuckets,
			NativeHistogramBucketFactor: 1.1,
		}),
		batch: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "cairn_claim_batch_claims",
			Help:    "Claims in one record of a shard's log.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
	}
	for o := cairn.Won; o <= cairn.Pending; o++ {
		m.outcomes[o] = claims.WithLabelValues(o.String())
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cairn_claim_queue_attempts",
		Help: "Attempts waiting for the loop of their shard.",
	}, func() float64 { return float64(s.queued()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cairn_claim_shards_served",
		Help: "Shards that this process owns and serves.",
	}, func() float64 { return float64(s.serving()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cairn_claim_maps",
		Help: "Maps remembered: open, about to open, or closed not long ago.",
	}, func() float64 { return float64(len(s.atlas.Load().layouts)) })
	return m
}

// queued returns how many attempts wait in all queues.
func (s *Service) queued() (n int) {
	for _, sh := range s.shards {
		sh.mu.Lock()
		n += sh.queued
		sh.mu.Unlock()
	}
	return n
}

// serving returns how many shards are served.
func (s *Service) serving() (n int) {
	for i := range s.shards {
		if s.Holding(i) == Serving {
			n++
		}
	}
	return n
}
