package server

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// getHealth says that the process answers.
func (s *Server) getHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = headerJSON
	w.Write([]byte(`{"status":"ok"}`))
}

// getReady says whether this process may be sent players, and what keeps it
// from that. It asks every check each time: they are cheap, and a probe's
// answer must not be old.
func (s *Server) getReady(w http.ResponseWriter, _ *http.Request) {
	ready := !s.draining()
	b := []byte(`"checks":[`)
	add := func(name string, err error, advisory bool) {
		if b[len(b)-1] != '[' {
			b = append(b, ',')
		}
		b = appendText(append(b, `{"name":`...), name)
		b = strconv.AppendBool(append(b, `,"ready":`...), err == nil)
		if err != nil {
			b = appendText(append(b, `,"detail":`...), err.Error())
		}
		b = strconv.AppendBool(append(b, `,"advisory":`...), advisory)
		b = append(b, '}')
	}
	if s.draining() {
		add("server", errDraining, false)
	}
	for _, c := range s.opts.Ready {
		err := c.Ready()
		ready = ready && (err == nil || c.Advisory)
		add(c.Name, err, c.Advisory)
	}
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	w.Header()["Content-Type"] = headerJSON
	w.WriteHeader(status)
	out := strconv.AppendBool([]byte(`{"ready":`), ready)
	w.Write(append(append(append(out, ','), b...), "]}"...))
}

var (
	readyDesc = prometheus.NewDesc("cairn_ready", "1 while /readyz says yes, 0 while it does not.", nil, nil)
	checkDesc = prometheus.NewDesc("cairn_ready_check", "1 for a check of /readyz that passes, 0 for one that fails; an advisory one keeps nobody away.",
		[]string{"check", "advisory"}, nil)
)

// A readiness is what /readyz says, as metrics: it asks the checks when the
// metrics are read.
type readiness struct{ s *Server }

// exportReady makes what /readyz says a metric.
func (s *Server) exportReady() {
	if s.opts.Metrics != nil {
		s.opts.Metrics.MustRegister(readiness{s})
	}
}

// Describe implements prometheus.Collector.
func (readiness) Describe(ch chan<- *prometheus.Desc) {
	ch <- readyDesc
	ch <- checkDesc
}

// Collect implements prometheus.Collector.
func (r readiness) Collect(ch chan<- prometheus.Metric) {
	number := map[bool]float64{true: 1}
	ready := !r.s.draining()
	for _, c := range r.s.opts.Ready {
		ok := c.Ready() == nil
		ready = ready && (ok || c.Advisory)
		ch <- prometheus.MustNewConstMetric(checkDesc, prometheus.GaugeValue, number[ok], c.Name, strconv.FormatBool(c.Advisory))
	}
	ch <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, number[ready])
}
