package server

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// Admission bounds what a gateway takes on, so that a storm of handshakes costs
// those who are connected little. The zero value is ready for production.
type Admission struct {
	// Connect bounds handshakes. Zero means 2,000/s, 4,000 at once; a negative
	// PerSecond is no bound.
	Connect Rate

	// ConnectionsMax is how many clients may watch at once; 0 means no bound.
	ConnectionsMax int
}

var defaultConnect = Rate{2000, 4000}

// Why a handshake was refused: a closed set.
const (
	shakeRate     = "rate"      // more came than are taken a second
	shakeFull     = "full"      // ConnectionsMax are here
	shakeDraining = "draining"  // this process ends
	shakeNotReady = "not_ready" // it has not read the logs yet
	shakeOrigin   = "origin"    // a page of another site
	shakeForm     = "form"      // not a handshake of this protocol
	shakeLost     = "lost"      // the socket failed under it
)

var shakeReasons = []string{shakeRate, shakeFull, shakeDraining, shakeNotReady, shakeOrigin, shakeForm, shakeLost}

// Which way a handshake went: a closed set.
const (
	pathFast = "fast" // read from the socket by the front
	pathHTTP = "http" // by net/http
)

// How long those who are refused are told to stay away, in seconds.
const (
	backWithin  = 60 // at most, when the rate is exceeded
	backFull    = 30 // at most, when there is no room
	backNotRead = 5  // at most, when the logs are still read
	backDrain   = 1  // elsewhere is as good as here
)

// backShare is which part of the rate is left for those who come back: the rest
// is for who comes first.
const backShare = 0.8

// nearlyFull and roomAgain are which parts of ConnectionsMax begin and end a
// warning.
const (
	nearlyFull = 0.8
	roomAgain  = 0.75
)

// An admission decides about handshakes. Safe for concurrent use.
type admission struct {
	// Static after newAdmission.
	max   int           // 0 means no bound
	taken *rate.Limiter // nil means no bound
	back  *rate.Limiter // deals out when those who were refused are to be back
	count func() int    // clients that are here

	warned atomic.Bool // that it is nearly full
}

func newAdmission(opts Admission, count func() int) *admission {
	a := &admission{max: opts.ConnectionsMax, count: count}
	if r := opts.Connect.or(defaultConnect); r.PerSecond >= 0 {
		a.taken = rate.NewLimiter(rate.Limit(r.PerSecond), max(r.Burst, 1))
		a.back = rate.NewLimiter(rate.Limit(r.PerSecond*backShare), 1)
	}
	return a
}

// register makes the bound a metric, beside which cairn_broadcast_connections
// says how near it is.
func (a *admission) register(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	bound := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "cairn_edge_connections_max",
		Help: "Clients that may watch at once; 0 is no bound.",
	})
	bound.Set(float64(a.max))
	reg.MustRegister(bound)
}

// take takes one handshake, or returns why not and after how many seconds to
// try again.
func (a *admission) take(now time.Time) (reason string, after int) {
	if a.max > 0 && a.count() >= a.max {
		return shakeFull, 1 + rand.IntN(backFull)
	}
	if a.taken == nil || a.taken.AllowN(now, 1) {
		return "", 0
	}
	return shakeRate, a.backAfter(now)
}

// backAfter returns after how many seconds one who was refused is to be back.
// Each is given a place in a line that moves as fast as handshakes are taken,
// so that a crowd comes back no faster than that, however large it is; a place
// in between two seconds is rounded either way by chance. Behind the longest
// wait that is told, there is no line any more: those are spread at random.
func (a *admission) backAfter(now time.Time) int {
	r := a.back.ReserveN(now, 1)
	wait := r.DelayFrom(now).Seconds()
	if wait > backWithin-1 {
		r.CancelAt(now)
		return backWithin/2 + rand.IntN(backWithin/2) + 1
	}
	return 1 + int(wait+rand.Float64())
}

// crowded reports whether to warn that there is nearly no room: once, until
// there is room again.
func (a *admission) crowded() (n int, warn bool) {
	if a.max == 0 {
		return 0, false
	}
	n = a.count()
	switch part := float64(n) / float64(a.max); {
	case part >= nearlyFull:
		return n, !a.warned.Load() && a.warned.CompareAndSwap(false, true)
	case part < roomAgain && a.warned.Load():
		a.warned.Store(false)
	}
	return n, false
}

// admitSocket takes one handshake, or returns why not and after how many
// seconds to try again. now is of a clock that only goes forward.
func (s *Server) admitSocket(now time.Time) (reason string, after int) {
	switch {
	case s.draining():
		return shakeDraining, backDrain
	case s.rooms.Hub.Ready() != nil:
		return shakeNotReady, 1 + rand.IntN(backNotRead)
	}
	reason, after = s.admission.take(now)
	if n, warn := s.admission.crowded(); warn {
		s.opts.Log.Warn("live: connections are near their maximum", "connections", n, "max", s.admission.max)
	}
	return reason, after
}

// refusals are the details of the 503 by why: what a client's operator reads.
var refusals = map[string]string{
	shakeRate:     "too many connect at once; try again after Retry-After seconds",
	shakeFull:     "this gateway has no room for more connections; try again after Retry-After seconds",
	shakeDraining: "this gateway takes nobody new now; try again",
	shakeNotReady: "this gateway takes nobody new now; try again",
}

// refusal returns the 503 for a handshake that was not admitted.
func refusal(reason string, after int) *Problem {
	return problem(http.StatusServiceUnavailable, "", "%s", refusals[reason]).
		with("Retry-After", strconv.Itoa(after)).with("Connection", "close")
}

// A cannedRefusal is what is written to a socket for a refusal, but for what
// differs from one to the next: the body lacks its request_id and its end.
type cannedRefusal struct{ head, body []byte }

var cannedRefusals = func() map[string]cannedRefusal {
	all := map[string]cannedRefusal{}
	for reason, detail := range refusals {
		body := problem(http.StatusServiceUnavailable, "", "%s", detail).appendJSON(nil)
		all[reason] = cannedRefusal{[]byte("HTTP/1.1 503 Service Unavailable\r\n" +
			"Cache-Control: no-store\r\nConnection: close\r\n" +
			"Content-Type: application/problem+json\r\nX-Content-Type-Options: nosniff\r\n"), body[:len(body)-1]}
	}
	return all
}()

// appendRefusal appends what net/http would have answered.
func appendRefusal(b []byte, reason string, after int, id string, now time.Time) []byte {
	c := cannedRefusals[reason]
	b = append(append(b, c.head...), "Retry-After: "...)
	b = strconv.AppendInt(b, int64(after), 10)
	b = append(append(b, "\r\n"+headerRequestID+": "...), id...)
	const member = `,"request_id":"`
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(c.body)+len(member)+len(id)+len(`"}`)), 10)
	b = now.UTC().AppendFormat(append(b, "\r\nDate: "...), http.TimeFormat)
	b = append(append(b, "\r\n\r\n"...), c.body...)
	return append(append(append(b, member...), id...), `"}`...)
}
