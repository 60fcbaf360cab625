//go:build unix

package main

import (
	"math"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/capacity"
	"github.com/veltrix/cairn/internal/capacity/sim"
)

// A Simulated is what `cairn simulate` makes of the same traffic and policy,
// beside what became of it.
type Simulated struct {
	Role     string    `json:"role"`
	At       []float64 `json:"s"`
	Real     []int     `json:"real"`      // processes
	Pods     []int     `json:"simulated"` // processes
	MostReal int       `json:"most_real"`
	MostPods int       `json:"most_simulated"`
	Error    float64   `json:"mean_error"`  // of the number of processes, in processes, without its sign
	Hours    float64   `json:"hours_error"` // of the hours of processes, as a share
	Refusals int       `json:"refusals"`
}

// simulate plays what came to the run, second by second, against a role's
// policy: clients as they were to be there, attempts as Prometheus has their rate.
// It goes by connections and attempts, as far as the role is scaled by them; what
// makes a process late it knows nothing of.
func (r *run) simulate(s *scaler, starts, ends []time.Duration) (*Simulated, error) {
	config, err := simConfig(s.policy, r.o, mean(starts), mean(ends))
	if err != nil {
		return nil, err
	}
	for i, x := range r.samples {
		config.Traffic = append(config.Traffic, sim.Point{At: time.Duration(x.At * float64(time.Second)), Connections: float64(x.Clients), Events: r.attempts(i)})
	}
	if s.policy.Role != "gateway" {
		for i := range config.Traffic {
			config.Traffic[i].Connections = 0
		}
	}
	last := config.Traffic[len(config.Traffic)-1]
	last.At = max(last.At, config.Traffic[0].At+time.Minute) // no traffic is shorter
	config.Traffic = append(config.Traffic, last)
	played, err := sim.Run(*config)
	if err != nil {
		return nil, err
	}
	res := &Simulated{Role: s.policy.Role, Refusals: played.Refusals}
	var podsReal, podsSim, off float64
	for _, t := range played.Timeline {
		at := r.samples[0].At + 60*t.Minute
		if at > r.samples[len(r.samples)-1].At {
			break
		}
		x := r.nearest(at)
		have := x.Claims
		if s.policy.Role == "gateway" {
			have = x.Gateways
		}
		res.At, res.Real, res.Pods = append(res.At, at), append(res.Real, have), append(res.Pods, t.Pods)
		res.MostReal = max(res.MostReal, have)
		podsReal += float64(have)
		podsSim += float64(t.Pods)
		off += math.Abs(float64(have - t.Pods))
	}
	res.MostPods = played.PodsMost
	res.Error = off / float64(len(res.At))
	res.Hours = podsSim/podsReal - 1
	return res, nil
}

// simConfig returns a role's policy as a simulation has it.
func simConfig(p *Policy, o options, start, drain time.Duration) (*sim.Config, error) {
	c, err := capacity.Measured()
	if err != nil {
		return nil, err
	}
	load := capacity.DefaultLoad()
	config := sim.Cairn(&load, c, capacity.Rules{Clients: func(int, int) int { return 0 }, Sockets: func(files int) int { return files }})
	config.Seed, config.Traffic = o.seed, nil
	x := &config.Policy
	x.Least, x.Most, x.Behavior = p.Least, p.Most, &p.Behavior
	x.Poll = cairn.Duration(p.Every * float64(time.Second))
	x.Start, x.Drain = cairn.Duration(start), cairn.Duration(drain)
	if p.Role == "gateway" {
		x.Drain += cairn.Duration(preStop)
	}
	x.TargetLag = cairn.Duration(time.Hour) // no trigger goes by it
	config.Pod.Socket, config.Pod.Sockets = 0, math.MaxInt32
	x.TargetCPU = 1
	for _, t := range p.Triggers {
		if t.Name == "connections" { // of the connections that a gateway takes, a share
			x.TargetCPU, config.Pod.Sockets = t.Threshold, o.connectionsMax
		}
	}
	config.Pod.Sockets = min(config.Pod.Sockets, 1e7)
	for _, t := range p.Triggers {
		if t.Name == "attempts" {
			config.Pod.Events = t.Threshold / x.TargetCPU
		}
	}
	return &config, nil
}

// attempts returns how many were decided a second, a mean over as long as the
// rules look back, up to a sample.
func (r *run) attempts(i int) float64 {
	back := r.samples[max(0, i+1-int(r.o.window().Seconds())) : i+1]
	sum := 0.0
	for _, x := range back {
		sum += float64(x.Decided)
	}
	return sum / float64(len(back))
}

// nearest returns the sample that is nearest to a moment.
func (r *run) nearest(at float64) *Sample {
	best := &r.samples[0]
	for i := range r.samples {
		if math.Abs(r.samples[i].At-at) < math.Abs(best.At-at) {
			best = &r.samples[i]
		}
	}
	return best
}

func mean(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	return sum / time.Duration(len(all))
}
