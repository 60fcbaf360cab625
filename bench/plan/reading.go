//go:build unix

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/veltrix/cairn/internal/lab"
)

type family = dto.MetricFamily

// A reading is what a fleet has used since it was started.
type reading struct {
	at    time.Time
	roles map[string]string             // of a process, by its name
	of    map[string]map[string]*family // its metrics, by its name
	redis float64                       // CPU seconds of the primaries
}

func read(ctx context.Context, f *lab.Fleet) (*reading, error) {
	r := &reading{at: time.Now(), roles: map[string]string{}, of: map[string]map[string]*family{}}
	for _, role := range f.Roles("") {
		m, err := role.Metrics(ctx)
		if err != nil {
			return nil, err
		}
		r.roles[role.Name], r.of[role.Name] = role.Role, m
	}
	nodes, err := f.Redis.Primaries(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		info, err := n.Info(ctx, "cpu")
		if err != nil {
			return nil, err
		}
		for _, field := range []string{"used_cpu_user", "used_cpu_sys"} {
			s, err := strconv.ParseFloat(info[field], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: INFO cpu: %s: %w", n.Name, field, err)
			}
			r.redis += s
		}
	}
	return r, nil
}

// sum adds up a family over all processes of a role, those with the labels.
func (r *reading) sum(role, family string, labels ...string) float64 {
	total := 0.0
	for name, has := range r.roles {
		if has == role {
			total += r.one(name, family, labels...)
		}
	}
	return total
}

// one adds up counters, gauges and counts of histograms of one process.
func (r *reading) one(name, family string, labels ...string) float64 {
	total := 0.0
	for _, m := range r.of[name][family].GetMetric() {
		if has(m, labels) {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return total
}

func has(m *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		if !slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == labels[i] && l.GetValue() == labels[i+1] }) {
			return false
		}
	}
	return true
}
