package fleet

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// shared registers c, or returns what was registered under its name before: a
// process may be a member of more than one role.
func shared[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	if was := (prometheus.AlreadyRegisteredError{}); errors.As(err, &was) {
		return was.ExistingCollector.(C)
	}
	if err != nil {
		panic(err) // as promauto does: a programmer's mistake
	}
	return c
}

func missedBeats(reg prometheus.Registerer) *prometheus.CounterVec {
	return shared(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_fleet_beats_missed_total",
		Help: "Heartbeats that the registry did not take.",
	}, []string{"role"}))
}

func membersSeen(reg prometheus.Registerer) *prometheus.GaugeVec {
	return shared(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "cairn_fleet_members",
		Help: "Members of a role that this process believes to be there.",
	}, []string{"role", "state"}))
}

func shardsOwned(reg prometheus.Registerer) *prometheus.GaugeVec {
	return shared(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "cairn_fleet_shards_owned",
		Help: "Shards that fall to this process, of a role whose shards are shared out.",
	}, []string{"role"}))
}

func leads(reg prometheus.Registerer) *prometheus.GaugeVec {
	return shared(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "cairn_fleet_leads",
		Help: "1 while this process is the one of its role that is to work.",
	}, []string{"role"}))
}

type ownerMetrics struct {
	verified  prometheus.Counter
	takeovers *prometheus.HistogramVec
	streams   prometheus.Gauge
	batch     prometheus.Histogram
}

func newOwnerMetrics(reg prometheus.Registerer) *ownerMetrics {
	f := promauto.With(reg)
	return &ownerMetrics{
		verified: f.NewCounter(prometheus.CounterOpts{
			Name: "cairn_fleet_answers_verified_total",
			Help: "Answers for which the log was asked whether this process is still the owner.",
		}),
		takeovers: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "cairn_fleet_takeover_duration_seconds",
			Help:                        "From the decision to take a shard over until it is served; planned if its owner let go of it.",
			Buckets:                     prometheus.ExponentialBucketsRange(1e-3, 10, 16),
			NativeHistogramBucketFactor: 1.1,
		}, []string{"how"}),
		streams: f.NewGauge(prometheus.GaugeOpts{
			Name: "cairn_fleet_streams",
			Help: "Streams of attempts that gateways and peers hold open here.",
		}),
		batch: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "cairn_fleet_batch_attempts",
			Help:    "Attempts in one message from a gateway.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
	}
}

type claimsMetrics struct {
	retries  prometheus.Counter
	full     prometheus.Counter
	duration prometheus.Histogram
}

// claimBuckets has 8 ms, the objective of a claim, and what a takeover takes.
var claimBuckets = []float64{
	.0001, .0002, .0003, .0005, .00075, .001, .0015, .002, .003, .004, .006,
	.008, .012, .016, .024, .032, .064, .125, .25, .5, 1, 2.5, 5, 10,
}

func newClaimsMetrics(reg prometheus.Registerer, c *Claims) *claimsMetrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cairn_fleet_attempts_in_flight",
		Help: "Attempts sent to owners, or about to be, that have no answer yet.",
	}, func() float64 { return float64(c.inFlight()) })
	return &claimsMetrics{
		retries: f.NewCounter(prometheus.CounterOpts{
			Name: "cairn_fleet_retries_total",
			Help: "Times that an attempt was sent once more: its owner was gone, or another.",
		}),
		full: f.NewCounter(prometheus.CounterOpts{
			Name: "cairn_fleet_full_total",
			Help: "Attempts refused because too many were in flight to their owner.",
		}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:                        "cairn_fleet_claim_duration_seconds",
			Help:                        "From when an attempt reached the gateway's end of the fleet to its answer, retries included.",
			Buckets:                     claimBuckets,
			NativeHistogramBucketFactor: 1.1,
		}),
	}
}

type boardsMetrics struct {
	retries     prometheus.Counter
	unavailable prometheus.Counter
	duration    prometheus.Histogram
}

func newBoardsMetrics(reg prometheus.Registerer) *boardsMetrics {
	f := promauto.With(reg)
	return &boardsMetrics{
		retries: f.NewCounter(prometheus.CounterOpts{
			Name: "cairn_fleet_board_retries_total",
			Help: "Times that a leaderboard process was asked because another had not answered.",
		}),
		unavailable: f.NewCounter(prometheus.CounterOpts{
			Name: "cairn_fleet_boards_unavailable_total",
			Help: "Questions about standings that no leaderboard process answered.",
		}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:                        "cairn_fleet_board_duration_seconds",
			Help:                        "Time of one answer about standings from a leaderboard process, retries included.",
			Buckets:                     prometheus.ExponentialBucketsRange(100e-6, 2, 16),
			NativeHistogramBucketFactor: 1.1,
		}),
	}
}
