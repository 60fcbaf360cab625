package broadcast

import (
	"sync/atomic"
	"time"
)

// While deliveries are under way, paceShare newcomers are let in for each round
// of them, which is turnsAtOnce deliveries at most: a newcomer costs about as
// much as nine, so that a crowd takes a fifth of a loop from those who are
// connected. What was not made use of is saved up to paceMost, since a loop on
// the only processor is interrupted seldom. Whatever happens, one is let in
// after paceWait.
const (
	paceShare = 2
	paceMost  = 32
	paceWait  = 20 * time.Millisecond
)

// rounds is what paces go by.
type rounds struct {
	done    atomic.Uint64 // rounds of deliveries
	waiting atomic.Int32  // for the next one
	next    chan struct{} // holds a token for one of those who wait
}

// over says that a round is over.
func (r *rounds) over() {
	r.done.Add(1)
	if r.waiting.Load() > 0 {
		r.tell()
	}
}

func (r *rounds) tell() {
	select {
	case r.next <- struct{}{}:
	default:
	}
}

// A Pace holds up those who let newcomers in: what they do takes processors
// from deliveries, and can wait a moment. It is for one goroutine.
type Pace struct {
	hub  *Hub
	seen uint64 // rounds that were made use of
	left int
}

// Pace returns a pace for a goroutine that lets newcomers in.
func (h *Hub) Pace() *Pace { return &Pace{hub: h} }

// Step is called for each newcomer. It returns at once if nothing is delivered
// now, and else when it is this one's turn: within 20 ms.
func (p *Pace) Step() {
	r := &p.hub.rounds
	done := r.done.Load()
	if !p.hub.delivering() || p.allowed(done) {
		return
	}
	late := time.NewTimer(paceWait)
	defer late.Stop()
	r.waiting.Add(1)
	defer r.waiting.Add(-1)
	for p.hub.delivering() && r.done.Load() == done {
		select {
		case <-r.next:
		case <-late.C:
			return
		}
	}
	if !p.hub.delivering() && r.waiting.Load() > 1 {
		r.tell() // nobody else will
	}
}

// allowed takes a newcomer in if that many rounds leave room for one.
func (p *Pace) allowed(done uint64) bool {
	p.left = int(min(uint64(p.left)+paceShare*(done-p.seen), paceMost))
	p.seen = done
	if p.left == 0 {
		return false
	}
	p.left--
	return true
}

// delivering reports whether one of the loops has something to deliver.
func (h *Hub) delivering() bool { return h.loops.Load().busy() }
