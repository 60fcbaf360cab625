package server

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Why a request was refused before anything looked at it: a closed set.
const (
	refusedPlayer  = "player"
	refusedAddress = "address"
	refusedGuests  = "guests"
	refusedToken   = "token"
	refusedForm    = "form"
	refusedOrigin  = "origin"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	refused  *prometheus.CounterVec
	streams  prometheus.Gauge
	panics   prometheus.Counter

	shakes        map[string]prometheus.Counter // taken, by path
	shakesRefused map[string]prometheus.Counter // by reason

	routes sync.Map // pattern → *routeMetrics, so that a request hashes no labels
}

// A routeMetrics is the metrics of one route, looked up once.
type routeMetrics struct {
	classes  [6]prometheus.Counter // by status / 100
	duration prometheus.Observer
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cairn_http_requests_total",
			Help: "Requests answered, by route and class of status.",
		}, []string{"route", "class"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "cairn_http_request_duration_seconds",
			Help:                            "From the first byte of a request's header to its answer, by route; streams and sockets aside.",
			Buckets:                         []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1, 2.5, 5},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cairn_http_in_flight_requests",
			Help: "Requests being answered now, event streams included.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cairn_http_refused_total",
			Help: "Requests, and attempts in them, refused at the edge, by why.",
		}, []string{"why"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cairn_http_event_streams",
			Help: "Server-Sent Event streams open now.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cairn_http_panics_total",
			Help: "Requests whose handler panicked.",
		}),
	}
	shakes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_edge_handshakes_total",
		Help: "Handshakes of /v1/live that were taken: read by the edge itself (fast), or by net/http.",
	}, []string{"path"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_edge_handshakes_refused_total",
		Help: "Handshakes of /v1/live that came to nothing, by why.",
	}, []string{"reason"})
	m.shakes, m.shakesRefused = counters(shakes, pathFast, pathHTTP), counters(refused, shakeReasons...)
	for _, why := range []string{refusedPlayer, refusedAddress, refusedGuests, refusedToken, refusedForm, refusedOrigin} {
		m.refused.WithLabelValues(why) // shown as 0 before the first
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.inFlight, m.refused, m.streams, m.panics, shakes, refused)
	}
	return m
}

// counters returns the counters of a vector by its one label's values, each
// shown as 0 before its first.
func counters(v *prometheus.CounterVec, labels ...string) map[string]prometheus.Counter {
	m := make(map[string]prometheus.Counter, len(labels))
	for _, l := range labels {
		m[l] = v.WithLabelValues(l)
	}
	return m
}

// route returns the metrics of a pattern of the mux, "GET /v1/hunts", which is
// a closed set; "" is what no pattern matched.
func (m *metrics) route(pattern string) *routeMetrics {
	if r, ok := m.routes.Load(pattern); ok {
		return r.(*routeMetrics)
	}
	label := pattern
	if label == "" {
		label = "none"
	}
	r := &routeMetrics{duration: m.duration.WithLabelValues(label)}
	for i, class := range [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"} {
		if i > 0 {
			r.classes[i] = m.requests.WithLabelValues(label, class)
		}
	}
	got, _ := m.routes.LoadOrStore(pattern, r)
	return got.(*routeMetrics)
}

func (m *metrics) answered(pattern string, status int, took time.Duration) {
	r := m.route(pattern)
	if c := status / 100; c >= 1 && c <= 5 {
		r.classes[c].Inc()
	}
	if !strings.HasSuffix(pattern, " /v1/live") && !strings.HasSuffix(pattern, " /v1/events") {
		r.duration.Observe(took.Seconds())
	}
}
