//go:build unix

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/veltrix/cairn/bench/autoscale/keda"
	"github.com/veltrix/cairn/bench/autoscale/monitor"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/capacity/hpa"
)

// lookWithin bounds one question to Prometheus.
const lookWithin = time.Second

// sweepUsual is the sweep that production's threshold of staleness is for.
const sweepUsual = 50 * time.Millisecond

// A Trigger is one as this run has it, beside production's.
type Trigger struct {
	Name      string  `json:"name"`
	Query     string  `json:"query"`
	Threshold float64 `json:"threshold"`
	Usual     float64 `json:"usual"` // production's
}

// A Policy is how a role is scaled in this run.
type Policy struct {
	Role     string       `json:"role"`
	File     string       `json:"file"`
	Least    int          `json:"least"`
	Most     int          `json:"most"`
	Every    float64      `json:"every_s"`
	Behavior hpa.Behavior `json:"behavior"` // ns
	Triggers []Trigger    `json:"triggers"`

	Usual *keda.Object `json:"-"` // production's
}

// policy reads a role's ScaledObject and makes it one for a small fleet and a
// short run: from one process to most, hurried, and with fewer attempts a
// process.
func (o options) policy(role string, most int) (*Policy, error) {
	p := &Policy{Role: role, File: filepath.Join(o.objects, "scale-"+role+".yaml"), Least: 1, Most: most}
	var err error
	if p.Usual, err = keda.Read(p.File); err != nil {
		return nil, err
	}
	if p.Usual.Role != role {
		return nil, fmt.Errorf("%s: scales %s; want %s", p.File, p.Usual.Role, role)
	}
	p.Every = max(time.Second.Seconds(), p.Usual.Every.Seconds()/o.hurry)
	p.Behavior = p.Usual.Behavior.Hurried(o.hurry)
	for _, t := range p.Usual.Triggers {
		here := Trigger{t.Name, t.Query, t.Threshold, t.Threshold}
		switch t.Name {
		case "attempts":
			here.Threshold /= o.size
		case "staleness":
			here.Threshold *= max(1, o.sweep.Seconds()/sweepUsual.Seconds())
		}
		p.Triggers = append(p.Triggers, here)
	}
	return p, nil
}

// window is how far the rules look back instead of a minute: several scrapes at
// least.
func (o options) window() time.Duration {
	return max(5*time.Second, time.Duration(float64(time.Minute)/o.hurry).Round(time.Second))
}

// A scaler is an autoscaler of one role.
type scaler struct {
	policy  *Policy
	pods    *pods
	monitor *monitor.Monitor
	hpa     hpa.Scaler
	began   time.Time

	mu   sync.Mutex
	last map[string]float64 // of each trigger: the pods that it wants, not rounded
}

func newScaler(p *Policy, ps *pods, m *monitor.Monitor) *scaler {
	return &scaler{policy: p, pods: ps, monitor: m, hpa: hpa.Scaler{Least: p.Least, Most: p.Most, Behavior: p.Behavior}, began: time.Now(), last: map[string]float64{}}
}

// run looks again and again until ctx ends.
func (s *scaler) run(ctx context.Context) {
	for program.Sleep(ctx, time.Duration(s.policy.Every*float64(time.Second))) == nil {
		s.look(ctx)
	}
}

// look asks all triggers and does what comes of them.
func (s *scaler) look(ctx context.Context) {
	var metrics []hpa.Metric
	last := map[string]float64{}
	for _, t := range s.policy.Triggers {
		within, cancel := context.WithTimeout(ctx, lookWithin)
		v, err := s.monitor.Value(within, t.Query)
		cancel()
		if err != nil && ctx.Err() != nil {
			return
		}
		// An error is NaN: not known, which lets nothing end.
		metrics = append(metrics, hpa.Metric{Sum: v, Target: t.Threshold})
		if err == nil {
			last[t.Name] = v / t.Threshold
		}
	}
	current := s.pods.count().wanted
	to := s.hpa.Next(time.Since(s.began), current, hpa.Desired(current, metrics))
	s.mu.Lock()
	s.last = last
	s.mu.Unlock()
	if to != current {
		program.Say("%-8s %d → %d  (%s)", s.policy.Role, current, to, why(last))
		s.pods.scale(ctx, to)
	}
}

// wants returns what each trigger wanted at the last look, in pods.
func (s *scaler) wants() map[string]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}
