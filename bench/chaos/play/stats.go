package play

import (
	"math"
	"sync"
	"time"
)

// Counts is what came of tries in some time.
type Counts struct {
	Won         int64 `json:"won"`          // first tries or their retries, acknowledged
	Gone        int64 `json:"gone"`         //
	Closed      int64 `json:"closed"`       //
	Unknown     int64 `json:"unknown_tile"` //
	Again       int64 `json:"again"`        // holders and losers who asked again, answered
	Pending     int64 `json:"pending"`      // tries answered pending
	Unavailable int64 `json:"unavailable"`  // tries answered 503
	Throttled   int64 `json:"throttled"`    // tries answered 429
	Failed      int64 `json:"failed"`       // tries without an answer: refused, reset, timed out
	GivenUp     int64 `json:"given_up"`     // attempts that never were decided
	Starved     int64 `json:"starved"`      // tiles that were due and not there
	Shed        int64 `json:"shed"`         // tiles that were due while too many were in flight
}

// Add adds o to c.
func (c *Counts) Add(o Counts) {
	c.Won += o.Won
	c.Gone += o.Gone
	c.Closed += o.Closed
	c.Unknown += o.Unknown
	c.Again += o.Again
	c.Pending += o.Pending
	c.Unavailable += o.Unavailable
	c.Throttled += o.Throttled
	c.Failed += o.Failed
	c.GivenUp += o.GivenUp
	c.Starved += o.Starved
	c.Shed += o.Shed
}

// Undecided is how many tries ended without a decision.
func (c Counts) Undecided() int64 { return c.Pending + c.Unavailable + c.Throttled + c.Failed }

// Waits is how long attempts waited from when they were due to when they were
// decided, retries included: what a player feels.
type Waits struct {
	buckets [64]int64
	max     time.Duration
}

// The bounds of buckets grow by a quarter from waitMin.
const waitMin = 250 * time.Microsecond

var waitStep = math.Log(1.25)

func (w *Waits) add(d time.Duration, n int64) {
	i := 0
	if d > waitMin {
		i = min(int(math.Ceil(math.Log(float64(d)/float64(waitMin))/waitStep)), len(w.buckets)-1)
	}
	w.buckets[i] += n
	w.max = max(w.max, d)
}

// Add adds o to w.
func (w *Waits) Add(o *Waits) {
	for i, n := range o.buckets {
		w.buckets[i] += n
	}
	w.max = max(w.max, o.max)
}

// Max is the longest.
func (w *Waits) Max() time.Duration { return w.max }

// Quantile returns the upper bound of the bucket that q, 0 to 1, lies in:
// never better than the truth, and at most a quarter worse.
func (w *Waits) Quantile(q float64) time.Duration {
	var sum, at int64
	for _, n := range w.buckets {
		sum += n
	}
	for i, n := range w.buckets {
		if at += n; n > 0 && float64(at) >= q*float64(sum) {
			return min(w.max, time.Duration(float64(waitMin)*math.Exp(waitStep*float64(i))))
		}
	}
	return w.max
}

// A second is what happened in one.
type second struct {
	counts Counts // by the time of the answer
	waits  Waits  // by the time at which the attempt was due
}

// stats keeps what happened, by second. Its methods may be called concurrently.
type stats struct {
	start time.Time

	mu      sync.Mutex
	seconds []second
}

func (s *stats) at(t time.Time) *second {
	i := max(0, int(t.Sub(s.start)/time.Second))
	for len(s.seconds) <= i {
		s.seconds = append(s.seconds, second{})
	}
	return &s.seconds[i]
}

func (s *stats) count(t time.Time, c Counts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at(t).counts.Add(c)
}

func (s *stats) waited(due time.Time, d time.Duration, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at(due).waits.add(d, n)
}

// between sums the whole seconds that lie in a to b, or touch it if touching,
// and says how many there are.
func (s *stats) between(a, b time.Time, touching bool) (c Counts, w Waits, seconds int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.seconds {
		from := s.start.Add(time.Duration(i) * time.Second)
		to := from.Add(time.Second)
		if touching && (!to.After(a) || !from.Before(b)) || !touching && (from.Before(a) || to.After(b)) {
			continue
		}
		c.Add(s.seconds[i].counts)
		w.Add(&s.seconds[i].waits)
		seconds++
	}
	return c, w, seconds
}
