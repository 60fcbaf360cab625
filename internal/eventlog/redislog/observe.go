package redislog

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// gauges are what Redis says of itself. Labels are addresses of primaries and
// names of logs, both sets that the deployment closes.
type gauges struct {
	clients, clientsMax *prometheus.GaugeVec
	memory, memoryMax   *prometheus.GaugeVec
	replicas            *prometheus.GaugeVec
	entries             *prometheus.GaugeVec
	at                  prometheus.Gauge
}

func newGauges(reg prometheus.Registerer) *gauges {
	vec := func(label, name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
		reg.MustRegister(v)
		return v
	}
	g := &gauges{
		clients:    vec("node", "cairn_redis_clients", "Connections that a primary has, those of others included."),
		clientsMax: vec("node", "cairn_redis_clients_max", "Connections that a primary takes (maxclients)."),
		memory:     vec("node", "cairn_redis_memory_bytes", "Memory that a primary uses (used_memory)."),
		memoryMax:  vec("node", "cairn_redis_memory_max_bytes", "Memory that a primary may use: maxmemory, or the machine's where that is 0."),
		replicas:   vec("node", "cairn_redis_replicas", "Replicas that follow a primary."),
		entries:    vec("log", "cairn_log_entries", "Entries of a log's stream."),
		at: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cairn_redis_observed_timestamp_seconds",
			Help: "When all primaries and logs last answered; what they say is as old.",
		}),
	}
	reg.MustRegister(g.at)
	return g
}

// Observe exports to reg, until ctx ends, how full every primary is and how
// long every log: it asks them all now and each time that every has passed. One
// process of a fleet does it for all, or two. What can't be asked keeps its last
// values, and their age shows.
func (s *Store) Observe(ctx context.Context, reg prometheus.Registerer, every time.Duration) error {
	g := newGauges(reg)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := s.observe(ctx, g); err == nil {
			g.at.SetToCurrentTime()
		} else if ctx.Err() == nil {
			s.opts.Log.Warn("can't look at all of Redis", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// A reading is what INFO says of a primary.
type reading struct {
	clients, clientsMax, memory, memoryMax, replicas float64
}

func (s *Store) observe(ctx context.Context, g *gauges) error {
	nodes := map[string]reading{}
	for _, addr := range s.topo.Load().primaries() {
		n, err := s.node(ctx, addr)
		if err != nil {
			return err
		}
		info, err := n.info(ctx, s.opts.ReplyMax)
		if err != nil {
			return err
		}
		nodes[addr] = read(info)
	}
	names, err := s.Logs(ctx)
	if err != nil {
		return err
	}
	lengths := map[eventlog.Name]float64{}
	for _, name := range names {
		rs, err := s.read(ctx, name, func(b rueidis.Builder) rueidis.Commands {
			return rueidis.Commands{b.Xlen().Key(s.key(name)).Build()}
		})
		if err != nil {
			return err
		}
		n, err := rs[0].AsInt64()
		if err != nil {
			return s.errorf(name, "%w", err)
		}
		lengths[name] = float64(n)
	}
	g.set(nodes, lengths)
	return nil
}

// read takes from INFO what is exported.
func read(info map[string]string) reading {
	num := func(name string) float64 {
		v, _ := strconv.ParseFloat(info[name], 64) // every Redis from 7.0 on has them
		return v
	}
	r := reading{
		clients: num("connected_clients"), clientsMax: num("maxclients"),
		memory: num("used_memory"), memoryMax: num("maxmemory"), replicas: num("connected_slaves"),
	}
	if r.memoryMax == 0 {
		r.memoryMax = num("total_system_memory")
	}
	return r
}

// set replaces all that was said before: a node that is no primary any more is
// not shown.
func (g *gauges) set(nodes map[string]reading, lengths map[eventlog.Name]float64) {
	for _, v := range []*prometheus.GaugeVec{g.clients, g.clientsMax, g.memory, g.memoryMax, g.replicas, g.entries} {
		v.Reset()
	}
	for addr, r := range nodes {
		g.clients.WithLabelValues(addr).Set(r.clients)
		g.clientsMax.WithLabelValues(addr).Set(r.clientsMax)
		g.memory.WithLabelValues(addr).Set(r.memory)
		g.memoryMax.WithLabelValues(addr).Set(r.memoryMax)
		g.replicas.WithLabelValues(addr).Set(r.replicas)
	}
	for name, n := range lengths {
		g.entries.WithLabelValues(string(name)).Set(n)
	}
}
