package sim

import (
	"math"
	"time"

	"github.com/veltrix/cairn/internal/capacity/hpa"
)

// retryStart is how long a pod that got no client of Redis takes to try again.
const retryStart = 5 // seconds

// scale is one look of the autoscaler.
func (s *simulation) scale() {
	p := &s.c.Policy
	have := 0
	for _, x := range s.pods {
		if !x.draining {
			have++
		}
	}
	s.wanted = max(p.Least, s.wants(have))
	to := min(s.wanted, s.most)
	switch {
	case s.paced != nil:
		s.paced.Most = s.most
		s.change(have, s.paced.Next(time.Duration(s.now*float64(time.Second)), have, s.wanted))
	case to >= have:
		s.wantedLow = math.NaN()
		s.change(have, to)
	case math.IsNaN(s.wantedLow):
		s.wantedLow = s.now
	case s.now-s.wantedLow >= time.Duration(p.Stabilise).Seconds():
		s.change(have, to)
		s.wantedLow = math.NaN()
	}
}

// change starts or ends pods.
func (s *simulation) change(have, to int) {
	for range to - have {
		x := &pod{tokens: s.c.Pod.ConnectBurst}
		s.pods = append(s.pods, x)
		s.plan(s.now+time.Duration(s.c.Policy.Start).Seconds(), ready, x, 0)
	}
	for range have - to {
		s.drain()
	}
}

// wants returns how many pods the trigger asks for, where there are so many,
// those that start among them.
func (s *simulation) wants(have int) int {
	p := &s.c.Policy
	n := s.serving()
	if n == 0 {
		return len(s.pods)
	}
	if p.Trigger == TriggerCPU {
		window := min(len(s.used), int(time.Duration(p.Window).Seconds()))
		if window == 0 {
			return n
		}
		sum := 0.0
		for _, u := range s.used[len(s.used)-window:] {
			sum += u
		}
		// Within a tenth of the target nothing is done, as Kubernetes has it.
		ratio := sum / float64(window) / p.TargetCPU
		if math.Abs(ratio-1) <= 0.1 {
			return n
		}
		return int(math.Ceil(float64(n)*ratio - 1e-9))
	}
	busy := s.demand / p.TargetCPU
	if lag := time.Duration(p.TargetLag).Seconds(); s.lag > lag {
		busy += s.backlog / (s.c.Pod.Events * time.Duration(p.Start+p.Poll).Seconds())
	}
	sockets := float64(s.connected+s.waiting-s.leaving) / (p.TargetCPU * float64(s.c.Pod.Sockets))
	if s.paced != nil {
		return hpa.Desired(have, []hpa.Metric{{Sum: busy, Target: 1}, {Sum: sockets, Target: 1}})
	}
	return int(min(1e5, math.Ceil(max(busy, sockets)-1e-9)))
}

// starts has a pod serve, if Redis has room for its connections.
func (s *simulation) starts(p *pod) {
	if p.draining { // it was not needed after all
		return
	}
	if s.redisClients()+s.c.Redis.PerPod > float64(s.maxRedis) {
		s.fullNow = true
		s.plan(s.now+retryStart, ready, p, 0)
		return
	}
	p.ready, p.filled = true, s.now
}

// drain ends the pod with fewest clients: they come back over the first half of
// the time. One that has not started yet just ends.
func (s *simulation) drain() {
	var least *pod
	for _, p := range s.pods {
		if !p.draining && (least == nil || !p.ready && least.ready || p.ready == least.ready && p.sockets < least.sockets) {
			least = p
		}
	}
	if least == nil {
		return
	}
	d := time.Duration(s.c.Policy.Drain).Seconds()
	least.draining = true
	for range least.sockets {
		at := s.now + s.rng.Float64()*d/2
		s.plan(at, arrive, nil, at)
	}
	s.connected -= least.sockets
	s.waiting += least.sockets
	least.sockets = 0
	s.plan(s.now+d, drained, least, 0)
}
