package control

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	changes *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cairn_control_changes_total",
			Help: "Acts of operators that were asked for, by what they change (create, state, shards, knob, key) and how they ended (done, refused, failed).",
		}, []string{"what", "result"}),
	}
	if reg != nil {
		reg.MustRegister(m.changes)
	}
	return m
}
