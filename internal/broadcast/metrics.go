package broadcast

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a hub. Labels come from the constants of this package.
type metrics struct {
	connections *prometheus.GaugeVec
	websockets  prometheus.Gauge // of connections
	stalled     prometheus.Gauge
	deliveryCPU prometheus.Counter
	closes      *prometheus.CounterVec
	deliveries  prometheus.Counter
	bytes       prometheus.Counter
	skips       prometheus.Counter
	encodes     *prometheus.CounterVec
	frameBytes  *prometheus.HistogramVec
	sweep       prometheus.Histogram
	staleness   prometheus.Histogram
	standings   prometheus.Histogram
	ignored     *prometheus.CounterVec
	restarts    prometheus.Counter
}

func newMetrics(r prometheus.Registerer, h *Hub) *metrics {
	latency := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name, Help: help,
			Buckets:                     []float64{.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
		})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cairn_broadcast_connections", Help: "Clients that are connected.",
		}, []string{"transport"}),
		stalled: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cairn_broadcast_stalled_connections", Help: "Clients whose sockets take nothing now.",
		}),
		deliveryCPU: counter("cairn_broadcast_delivery_cpu_seconds_total", "CPU time spent writing shared frames to sockets, the kernel's part included."),
		closes:      counters("cairn_broadcast_closes_total", "Connections that ended, by why.", "reason"),
		deliveries:  counter("cairn_broadcast_deliveries_total", "Shared frames written to connections."),
		bytes:       counter("cairn_broadcast_delivered_bytes_total", "Bytes written to connections, WebSocket headers included."),
		skips:       counter("cairn_broadcast_skips_total", "Times that a slow client was skipped forward to a snapshot."),
		encodes:     counters("cairn_broadcast_encodes_total", "Shared frames encoded.", "frame"),
		frameBytes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cairn_broadcast_frame_bytes", Help: "Sizes of the shared frames encoded.",
			Buckets:                     prometheus.ExponentialBuckets(128, 4, 9),
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
		}, []string{"frame"}),
		sweep:     latency("cairn_broadcast_sweep_duration_seconds", "From a sweep's start until its frames are handed to the deliverers."),
		staleness: latency("cairn_broadcast_staleness_seconds", "From the newest claim of a sweep until its frames were written to every client that takes them."),
		standings: latency("cairn_standings_delivery_seconds", "From a board's newest claim until the board was written to a client."),
		ignored:   counters("cairn_broadcast_ignored_total", "Records of the logs that were left out, by why.", "reason"),
		restarts:  counter("cairn_broadcast_restarts_total", "Times that the fold began anew because a log was trimmed or rolled back."),
	}
	m.websockets = m.connections.WithLabelValues(transportWebSocket)
	if r != nil {
		r.MustRegister(m.connections, m.stalled, m.deliveryCPU, m.closes, m.deliveries, m.bytes, m.skips, m.encodes, m.frameBytes,
			m.sweep, m.staleness, m.standings, m.ignored, m.restarts,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "cairn_broadcast_regions", Help: "Regions that are or just were watched.",
			}, func() float64 {
				h.mu.RLock()
				defer h.mu.RUnlock()
				return float64(len(h.index.regions))
			}),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "cairn_broadcast_views", Help: "Distinct sets of regions that are watched.",
			}, func() float64 {
				h.mu.RLock()
				defer h.mu.RUnlock()
				return float64(len(h.views))
			}))
	}
	return m
}

// encoded counts a shared frame.
func (m *metrics) encoded(f *frame) {
	m.encodes.WithLabelValues(f.kind).Inc()
	m.frameBytes.WithLabelValues(f.kind).Observe(float64(len(f.payload)))
}
