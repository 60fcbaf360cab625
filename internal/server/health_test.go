package server

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestReadyMetrics: the metrics say what /readyz does, and which check fails;
// an advisory one fails nothing.
func TestReadyMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	var trouble error
	ops := NewOps(Options{Metrics: reg, Gatherer: reg, Ready: []Check{
		{Name: "claims", Ready: func() error { return trouble }},
		{Name: "ledger", Ready: func() error { return errors.New("away") }, Advisory: true},
	}})
	want := func(when string, ready, claims float64) {
		t.Helper()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					name += " " + l.GetValue()
				}
				got[name] = m.GetGauge().GetValue()
			}
		}
		if got["cairn_ready"] != ready || got["cairn_ready_check false claims"] != claims || got["cairn_ready_check true ledger"] != 0 {
			t.Errorf("%s: got %v; want ready %v, claims %v, ledger 0", when, got, ready, claims)
		}
	}
	want("all well", 1, 1)
	trouble = errors.New("shard 3 is not served")
	want("in trouble", 0, 0)
	trouble = nil
	ops.Drain()
	want("draining", 0, 1)
}
