package sim

import (
	"math"
	"time"
)

// A Result is what became of the traffic. Came = Connected + Left + GaveUp +
// Waiting: nobody is lost.
type Result struct {
	Config Config `json:"config"`

	Minutes  float64 `json:"minutes"`
	Came     int     `json:"came"`      // clients
	Left     int     `json:"left"`      // by themselves
	GaveUp   int     `json:"gave_up"`   // out of patience: refused for good
	Refusals int     `json:"refusals"`  // handshakes that were turned away; most came back
	Watching int     `json:"connected"` // in the end
	Waiting  int     `json:"waiting"`   // in the end
	Events   float64 `json:"events"`

	OutOfSLO  float64 `json:"out_of_slo_minutes"`   // for either reason
	Lagging   float64 `json:"lagging_minutes"`      // events waited longer than promised
	LockedOut float64 `json:"locked_out_minutes"`   // too many clients waited to be let in
	AtLimit   float64 `json:"at_limit_minutes"`     // the autoscaler wanted more pods than it may have
	RedisFull float64 `json:"redis_full_minutes"`   // somebody was refused for it
	LagMost   float64 `json:"lag_most_s"`           //
	WaitMost  float64 `json:"wait_most_s"`          // of a client that was let in
	PodHours  float64 `json:"pod_hours"`            //
	PodsMost  int     `json:"pods_most"`            //
	Cost      float64 `json:"cost"`                 // of the pods
	CostMonth float64 `json:"cost_month_like_this"` // were every hour like these

	Timeline []Sample `json:"timeline"`

	watching []int32 // clients, each second
}

// A Sample is how it stood at one moment.
type Sample struct {
	Minute       float64 `json:"minute"`
	Wanted       float64 `json:"wanted"` // clients there should be
	Connected    int     `json:"connected"`
	Waiting      int     `json:"waiting"`
	Serving      int     `json:"serving"` // pods
	Pods         int     `json:"pods"`    // that are paid for
	PodsWanted   int     `json:"pods_wanted"`
	Lag          float64 `json:"lag_s"`
	Used         float64 `json:"used"` // share of the pods
	RedisClients float64 `json:"redis_clients"`
}

// sampleEvery is how often a moment is kept, in seconds.
const sampleEvery = 10

// InAfter returns how many seconds after a moment so many clients watched, by
// the seconds in between; -1 if they never did.
func (r *Result) InAfter(from time.Duration, clients float64) float64 {
	for second, n := range r.watching {
		if after := float64(second) - from.Seconds(); after >= 0 && float64(n) >= clients {
			return after
		}
	}
	return -1
}

// account adds a second to what is counted.
func (s *simulation) account(now Point) {
	const minute = 1.0 / 60
	r := &s.res
	lagging := s.lag > time.Duration(s.c.Lag).Seconds()
	out := s.waiting-s.leaving > 0 && float64(s.waiting-s.leaving) > s.c.Waiting*now.Connections
	if lagging {
		r.Lagging += minute
	}
	if out {
		r.LockedOut += minute
	}
	if lagging || out {
		r.OutOfSLO += minute
	}
	if s.wanted > s.most {
		r.AtLimit += minute
		s.stuck++
		if s.c.Policy.Mended > s.most && s.stuck >= time.Duration(s.c.Policy.MendAfter).Seconds() {
			s.most = s.c.Policy.Mended
		}
	}
	if s.fullNow {
		r.RedisFull += minute
		s.full++
		if s.c.Redis.Mended > s.maxRedis && s.full >= time.Duration(s.c.Redis.MendAfter).Seconds() {
			s.maxRedis = s.c.Redis.Mended
		}
	}
	s.fullNow = false
	r.watching = append(r.watching, int32(s.connected))
	r.LagMost = max(r.LagMost, s.lag)
	r.PodsMost = max(r.PodsMost, len(s.pods))
	r.PodHours += float64(len(s.pods)) / 3600
	if math.Mod(s.now, sampleEvery) < 0.5 {
		used := 0.0
		if n := len(s.used); n > 0 {
			used = s.used[n-1]
		}
		r.Timeline = append(r.Timeline, Sample{
			Minute: s.now / 60, Wanted: now.Connections, Connected: s.connected, Waiting: s.waiting - s.leaving, Serving: s.serving(), Pods: len(s.pods),
			PodsWanted: s.wanted, Lag: s.lag, Used: used, RedisClients: s.redisClients(),
		})
	}
}

func (s *simulation) finish() {
	r, p := &s.res, &s.c.Prices
	r.Minutes = s.end / 60
	r.Watching, r.Waiting = s.connected, s.waiting
	r.Cost = r.PodHours * (s.c.Pod.Cores*p.CoreHour + s.c.Pod.Memory*p.MemoryHour)
	r.CostMonth = r.Cost / r.Minutes * 60 * p.Hours
}
