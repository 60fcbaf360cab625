package redislog

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

// TestObserve: how full Redis is, and how long a log, is what Redis says.
func TestObserve(t *testing.T) {
	node := redistest.Start(t, "--maxclients", "1234")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := mustOpen(t, node.URL(), Options{Prefix: newPrefix()})
	defer s.Close()
	if err := s.Provision(ctx, eventlog.Spec{Name: "s00"}, eventlog.Spec{Name: "maps"}); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	observing, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Observe(observing, reg, time.Millisecond) }()
	values := func() map[string]float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					if l.GetName() == "log" {
						name += " " + l.GetValue()
					}
				}
				got[name] = m.GetGauge().GetValue()
			}
		}
		return got
	}
	for values()["cairn_log_entries maps"] == 0 {
		if err := ctx.Err(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	got := values()
	if got["cairn_redis_clients_max"] != 1234 || got["cairn_redis_clients"] < 1 || got["cairn_redis_memory_bytes"] < 1 ||
		got["cairn_redis_memory_max_bytes"] < got["cairn_redis_memory_bytes"] || got["cairn_log_entries s00"] != 1 || got["cairn_redis_observed_timestamp_seconds"] == 0 {
		t.Errorf("got %v; want 1234 clients at most, one entry a log, and the machine's memory", got)
	}
}

// TestReadBound: where maxmemory is set, it is the bound.
func TestReadBound(t *testing.T) {
	info := map[string]string{"maxmemory": "5", "total_system_memory": "9"}
	if got := read(info).memoryMax; got != 5 {
		t.Errorf("with maxmemory: %v, want 5", got)
	}
	info["maxmemory"] = "0"
	if got := read(info).memoryMax; got != 9 {
		t.Errorf("without: %v, want 9", got)
	}
}
