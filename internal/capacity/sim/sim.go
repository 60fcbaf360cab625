package sim

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/veltrix/cairn/internal/capacity/hpa"
)

// A pod serves, starts or drains. Its clients are a number: they are alike.
type pod struct {
	sockets  int
	ready    bool
	draining bool

	// Admission: a bucket of handshakes, and when the next who is refused is to
	// be back.
	tokens, filled float64
	line           float64
}

// A simulation is one run, as a plain value.
type simulation struct {
	c   *Config
	rng *rand.Rand
	now float64 // seconds from the first point
	end float64

	queue events
	seq   uint64
	pods  []*pod // that are paid for

	at        int     // of the traffic
	connected int     // clients that watch
	waiting   int     // that try to be let in
	leaving   int     // of them, that will find it is no use any more
	backlog   float64 // events that wait
	lag       float64 // seconds
	demand    float64 // pods that the last second would have used up

	used      []float64   // share of all pods that was used, second by second
	wantedLow float64     // since when fewer pods were enough; NaN: they are not
	wanted    int         // pods
	most      int         // as it is now
	paced     *hpa.Scaler // nil without a Behavior
	maxRedis  int
	stuck     float64 // how long the policy's Most was too few
	full      float64 // and Redis had no client left
	fullNow   bool

	res Result
}

// Run plays the traffic to its end.
func Run(c Config) (*Result, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	first, last := c.Traffic[0].At, c.Traffic[len(c.Traffic)-1].At
	s := &simulation{
		c: &c, rng: rand.New(rand.NewPCG(c.Seed, 0x636169726e)), end: (last - first).Seconds(),
		wantedLow: math.NaN(), most: c.Policy.Most, maxRedis: c.Redis.Max, res: Result{Config: c},
	}
	if b := c.Policy.Behavior; b != nil {
		s.paced = &hpa.Scaler{Least: c.Policy.Least, Behavior: *b}
	}
	for range c.Policy.Least {
		p := &pod{ready: true, tokens: c.Pod.ConnectBurst}
		s.pods = append(s.pods, p)
	}
	s.settle(c.Traffic[0].Connections)
	s.plan(0, tick, nil, 0)
	s.plan(0, poll, nil, 0)
	for len(s.queue) > 0 {
		e := heap.Pop(&s.queue).(event)
		if e.at > s.end {
			break
		}
		s.now = e.at
		s.happens(e)
	}
	s.finish()
	return &s.res, nil
}

// settle has those who are there at the start be connected, as far as they fit.
func (s *simulation) settle(clients float64) {
	s.res.Came = int(clients)
	for range int(clients) {
		if p := s.roomiest(); p != nil && s.redisRoom() {
			p.sockets++
			s.connected++
			continue
		}
		s.waiting++
		s.plan(s.rng.Float64()*30, arrive, nil, 0)
	}
}

func (s *simulation) happens(e event) {
	switch e.kind {
	case tick:
		s.second()
		s.plan(s.now+1, tick, nil, 0)
	case poll:
		s.scale()
		s.plan(s.now+time.Duration(s.c.Policy.Poll).Seconds(), poll, nil, 0)
	case arrive:
		s.arrives(e)
	case ready:
		s.starts(e.pod)
	case drained:
		s.pods = slices.DeleteFunc(s.pods, func(p *pod) bool { return p == e.pod })
	}
}

// serving returns the pods that take work.
func (s *simulation) serving() (n int) {
	for _, p := range s.pods {
		if p.ready && !p.draining {
			n++
		}
	}
	return n
}

// second does what a second brings: clients come and leave, events are done.
func (s *simulation) second() {
	var now Point
	now, s.at = at(s.c.Traffic, s.c.Traffic[0].At+time.Duration(s.now*float64(time.Second)), s.at)
	s.population(int(now.Connections))

	n := float64(s.serving())
	all := n * s.c.Pod.Events
	watching := min(all, float64(s.connected)*s.c.Pod.Socket*s.c.Pod.Events)
	came := s.poisson(now.Events)
	done := min(s.backlog+came, all-watching)
	s.backlog += came - done
	s.res.Events += came
	if s.lag = 0; s.backlog > 0 {
		s.lag = min(s.backlog/max(all-watching, 1), lagMost)
	}
	s.demand = (came + watching) / s.c.Pod.Events
	if all > 0 {
		s.used = append(s.used, (done+watching)/all)
	}
	s.account(now)
}

// lagMost is the longest lag that is told, in seconds: pods that have no time
// left would make it infinite.
const lagMost = 3600

// population has clients come or leave until as many as wanted are there or on
// their way.
func (s *simulation) population(wanted int) {
	have := s.connected + s.waiting - s.leaving
	for ; have < wanted; have++ {
		s.res.Came++
		s.waiting++
		at := s.now + s.rng.Float64()
		s.plan(at, arrive, nil, at)
	}
	for ; have > wanted; have-- {
		if s.rng.IntN(s.connected+s.waiting-s.leaving) >= s.connected {
			s.leaving++
			continue
		}
		s.leaves()
	}
}

// leaves takes one client who watches, any of them.
func (s *simulation) leaves() {
	i := s.rng.IntN(s.connected)
	for _, p := range s.pods {
		if i -= p.sockets; i < 0 {
			p.sockets--
			break
		}
	}
	s.connected--
	s.res.Left++
}

// poisson returns how many of a mean come: by Knuth's product while it is small,
// by the normal distribution beyond.
func (s *simulation) poisson(mean float64) float64 {
	if mean <= 0 {
		return 0
	}
	if mean > 50 {
		return max(0, math.Round(mean+math.Sqrt(mean)*s.rng.NormFloat64()))
	}
	n, product := 0.0, s.rng.Float64()
	for floor := math.Exp(-mean); product > floor; n++ {
		product *= s.rng.Float64()
	}
	return n
}
