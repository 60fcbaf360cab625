package redislog

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what a store measures of itself. Those that a store on disk has
// too carry the same names.
type metrics struct {
	durable, volatile   prometheus.Observer
	bytes               prometheus.Counter
	fromRing, fromRedis prometheus.Counter
	byClock, byBell     prometheus.Counter
	resolved            *prometheus.CounterVec
	repaired            prometheus.Counter
	all                 []prometheus.Collector
}

func newMetrics(conns *atomic.Int64) *metrics {
	appends := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                        "cairn_append_duration_seconds",
		Help:                        "Time from the call of an append to its acknowledgement.",
		Buckets:                     []float64{.00001, .00005, .0001, .00025, .0005, .001, .002, .004, .008, .016, .032, .064, .25, 1},
		NativeHistogramBucketFactor: 1.1,
	}, []string{"log"})
	bytes := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "cairn_append_bytes_total",
		Help: "Bytes of bodies that were appended and acknowledged.",
	})
	reads := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_follow_records_total",
		Help: "Records given to followers, by where they were read.",
	}, []string{"source"})
	polls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_follow_polls_total",
		Help: "Looks for new records of a log, by what led to them: the clock, or the bell of a quiet log.",
	}, []string{"by"})
	resolved := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_append_resolved_total",
		Help: "Appends that got no clear answer at once, by what was found out: acknowledged, refused, fenced, missing or unknown.",
	}, []string{"outcome"})
	repaired := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "cairn_log_repaired_records_total",
		Help: "Records that a failover had lost and their writer put back.",
	})
	connections := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cairn_redis_connections",
		Help: "Connections to Redis that are open.",
	}, func() float64 { return float64(conns.Load()) })
	return &metrics{
		durable: appends.WithLabelValues("durable"), volatile: appends.WithLabelValues("volatile"),
		bytes:    bytes,
		fromRing: reads.WithLabelValues("ring"), fromRedis: reads.WithLabelValues("redis"),
		byClock: polls.WithLabelValues("clock"), byBell: polls.WithLabelValues("bell"),
		resolved: resolved, repaired: repaired,
		all: []prometheus.Collector{appends, bytes, reads, polls, resolved, repaired, connections},
	}
}

func (m *metrics) register(r prometheus.Registerer) {
	if r != nil {
		r.MustRegister(m.all...)
	}
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.all {
		r.Unregister(c)
	}
}

func (m *metrics) appended(volatile bool, bytes int, took time.Duration) {
	if volatile {
		m.volatile.Observe(took.Seconds())
	} else {
		m.durable.Observe(took.Seconds())
	}
	m.bytes.Add(float64(bytes))
}

// polled counts a poll of a log.
func (m *metrics) polled(rung bool) {
	if rung {
		m.byBell.Inc()
	} else {
		m.byClock.Inc()
	}
}
