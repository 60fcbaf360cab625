package leaderboard

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	lag         prometheus.Histogram
	publishes   *prometheus.CounterVec
	bytes       prometheus.Counter
	claims      prometheus.Counter
	checkpoints *prometheus.CounterVec
	hold        prometheus.Histogram
	resyncs     prometheus.Counter
	publishing  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, p *Projection) *metrics {
	m := &metrics{
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "cairn_standings_lag_seconds",
			Help:                        "Time from a claim's at to the publication of the boards that it changed. Claims that stood in the logs when the process started are left out.",
			Buckets:                     []float64{.001, .002, .005, .01, .015, .02, .03, .05, .075, .1, .15, .2, .5, 1, 5},
			NativeHistogramBucketFactor: 1.1,
		}),
		publishes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cairn_standings_publishes_total",
			Help: "Boards that were appended to the standings log, and appends that failed.",
		}, []string{"outcome"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_standings_publish_bytes_total",
			Help: "Bytes of the boards that were appended to the standings log.",
		}),
		claims: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_standings_claims_total",
			Help: "Claims that were folded into standings.",
		}),
		checkpoints: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cairn_standings_checkpoints_total",
			Help: "Checkpoints that were written, and those that could not be.",
		}, []string{"outcome"}),
		hold: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "cairn_standings_checkpoint_hold_seconds",
			Help:                        "How long folding stood still in each step of copying a checkpoint.",
			Buckets:                     []float64{.0001, .0003, .001, .003, .005, .01, .025, .05, .1, .5, 1},
			NativeHistogramBucketFactor: 1.1,
		}),
		resyncs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_standings_resyncs_total",
			Help: "Times that a log had diverged from what was read, and standings were folded anew.",
		}),
		publishing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cairn_standings_publishing",
			Help: "1 if this process writes the standings log, 0 if it stands by.",
		}),
	}
	for _, o := range []string{"ok", "failed"} {
		m.publishes.WithLabelValues(o)
		m.checkpoints.WithLabelValues(o)
	}
	if reg != nil {
		reg.MustRegister(m.lag, m.publishes, m.bytes, m.claims, m.checkpoints, m.hold, m.resyncs, m.publishing,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "cairn_standings_follower_lag_seconds",
				Help: "How old the standings are: age of the oldest claim read and not yet published, 0 when there is none.",
			}, func() float64 { return p.Lag().Seconds() }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "cairn_standings_boards",
				Help: "Boards in memory.",
			}, func() float64 { boards, _ := p.sizes(); return float64(boards) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "cairn_standings_players",
				Help: "Players in memory, each counted once a hunt.",
			}, func() float64 { _, players := p.sizes(); return float64(players) }))
	}
	return m
}
