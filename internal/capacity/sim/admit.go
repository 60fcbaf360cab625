package sim

import "time"

// How long those who are refused are told to stay away, in seconds: as
// internal/server's admission has it.
const (
	backWithin = 60
	backFull   = 30
	backShare  = 0.8
	backRedis  = 5 // what has no Retry-After: clients back off
)

// arrives has a client try to be let in.
func (s *simulation) arrives(e event) {
	if s.leaving > 0 { // it does not want to any more
		s.leaving--
		s.waiting--
		s.res.Left++
		return
	}
	after := s.take()
	if after == 0 {
		s.waiting--
		s.connected++
		s.res.WaitMost = max(s.res.WaitMost, s.now-e.since)
		return
	}
	s.res.Refusals++
	after += s.rng.Float64() // clients add a jitter of up to a second
	if s.now+after-e.since > time.Duration(s.c.Patience).Seconds() {
		s.waiting--
		s.res.GaveUp++
		return
	}
	s.plan(s.now+after, arrive, nil, e.since)
}

// take lets one client in, or returns after how many seconds it is to be back.
func (s *simulation) take() (after float64) {
	p := s.roomiest()
	switch {
	case p == nil:
		return 1 + float64(s.rng.IntN(backFull))
	case !s.redisRoom():
		s.fullNow = true
		return 1 + s.rng.Float64()*(backRedis-1)
	}
	if after := s.bucket(p); after > 0 {
		return after
	}
	p.sockets++
	return 0
}

// bucket takes a handshake from a pod's rate, or returns a place in its line.
func (s *simulation) bucket(p *pod) float64 {
	rate := s.c.Pod.ConnectRate
	if rate <= 0 {
		return 0
	}
	p.tokens = min(max(1, s.c.Pod.ConnectBurst), p.tokens+(s.now-p.filled)*rate)
	p.filled = s.now
	if p.tokens >= 1 {
		p.tokens--
		return 0
	}
	wait := max(p.line, s.now) - s.now
	if wait > backWithin-1 {
		return float64(backWithin/2 + s.rng.IntN(backWithin/2) + 1)
	}
	p.line = max(p.line, s.now) + 1/(rate*backShare)
	return 1 + float64(int(wait+s.rng.Float64()))
}

// roomiest returns the pod that serves fewest, as a balancer that counts does,
// or nil if all are full.
func (s *simulation) roomiest() *pod {
	var best *pod
	for _, p := range s.pods {
		if p.ready && !p.draining && p.sockets < s.c.Pod.Sockets && (best == nil || p.sockets < best.sockets) {
			best = p
		}
	}
	return best
}

// redisClients returns how many connections pods have to Redis.
func (s *simulation) redisClients() float64 {
	n := 0
	for _, p := range s.pods {
		if p.ready {
			n++
		}
	}
	return float64(n)*s.c.Redis.PerPod + float64(s.connected)*s.c.Redis.PerSocket
}

func (s *simulation) redisRoom() bool {
	return s.redisClients()+s.c.Redis.PerSocket <= float64(s.maxRedis)
}
