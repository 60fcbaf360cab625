package broadcast

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// A link is what the session of one of a loop's connections knows of it.
type link struct {
	handle
	codec Codec

	replyMu sync.Mutex
	replies *replies // that are not written yet; nil if there are none

	mu     sync.Mutex
	ctx    context.Context // made when first asked for
	cancel context.CancelFunc
	over   bool
}

var _ outlet = (*link)(nil)

// life implements outlet.
func (k *link) life() context.Context {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx == nil {
		k.ctx, k.cancel = context.WithCancel(context.Background())
		if k.over {
			k.cancel()
		}
	}
	return k.ctx
}

// end ends the context of life.
func (k *link) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	if k.cancel != nil {
		k.cancel()
	}
}

// with calls f with the connection's record, and l.mu held, if there still is
// one.
func (c handle) with(f func(l *loop, r *record)) {
	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()
	if r := c.loop.record(c); r != nil {
		f(c.loop, r)
	}
}

// send implements outlet.
func (c handle) send(frame []byte) {
	c.with(func(l *loop, r *record) { l.send(c, r, frame) })
}

// say implements outlet.
func (c handle) say(code ws.StatusCode, reason, why string, cause error) {
	c.with(func(l *loop, r *record) { l.say(c, r, code, reason, why, cause) })
}

// greet implements outlet.
func (k *link) greet() {
	l := k.loop
	l.mu.Lock()
	r := l.record(k.handle)
	if r == nil {
		l.mu.Unlock()
		return
	}
	r.flags |= flagHello
	s := l.session(k.handle, r)
	l.mu.Unlock()

	l.hub.mu.RLock()
	life := l.hub.life
	l.hub.mu.RUnlock()
	frame := l.hub.welcome(s.codec, s.player, life)
	k.with(func(l *loop, r *record) {
		r.told, r.mark = life.number, l.hub.clock()-pingPhase(k.slot, l.hub.opts.PingEvery)
		l.send(k.handle, r, frame)
	})
}

// watch implements outlet.
func (k *link) watch(w watching) bool {
	var drop []*view
	k.with(func(l *loop, r *record) { drop = l.watch(k.handle, r, w) })
	for _, v := range drop {
		k.loop.hub.release(v)
	}
	return true // nothing waits: the next wish replaces this one
}

// watch takes up what a client wants to see, and returns the views to be
// released. l.mu is held.
func (l *loop) watch(c handle, r *record, w watching) (drop []*view) {
	is := func(s *spot) bool { return s.view != 0 && l.audiences[s.view].view.hunt == w.hunt }
	extra := l.more[c.slot]
	var old *spot
	at := -1
	if is(&r.spot) {
		old = &r.spot
	} else if at = slices.IndexFunc(extra, func(s spot) bool { return is(&s) }); at >= 0 {
		old = &extra[at]
	}
	if old != nil {
		was := l.audiences[old.view].view
		drop = append(drop, was)
		if was == w.view { // it watches that already
			return drop
		}
		l.leave(old)
		*old = spot{}
		if old != &r.spot && w.view == nil {
			if extra = slices.Delete(extra, at, at+1); len(extra) == 0 {
				delete(l.more, c.slot)
			} else {
				l.more[c.slot] = extra
			}
		}
	}
	if w.view == nil {
		return drop
	}
	fresh := spot{}
	if life := w.view.head.Load().life; w.resume.Seq > 0 && w.resume.Epoch == life.epoch {
		// The client may have got only some of the frames of its newest sweep.
		fresh.life, fresh.seq, fresh.resume = life.number, w.resume.Seq-1, true
	}
	switch {
	case old != nil:
	case r.view == 0:
		old = &r.spot
	default:
		l.more[c.slot] = append(extra, spot{})
		old = &l.more[c.slot][len(extra)]
	}
	*old = fresh
	l.join(c.slot, old, old != &r.spot, w.view)
	if r.flags&(flagStalled|flagBehind) == 0 {
		l.lagging(c, r)
	}
	return drop
}

// drain implements peer.
func (c handle) drain(left time.Duration) {
	c.with(func(l *loop, r *record) {
		l.send(c, r, r.codec.message(drainFrame{Type: "drain", WithinMS: left.Milliseconds()}))
	})
}

// end implements peer.
func (c handle) end(now bool) {
	c.with(func(l *loop, r *record) {
		if now {
			l.hangUp(c, r, endServer, nil)
			return
		}
		l.say(c, r, ws.StatusGoingAway, "going away", endServer, nil)
	})
}

// handles appends the loop's connections to ps.
func (l *loop) handles(ps []peer) []peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, sl := range l.slabs {
		for j := range sl.records {
			if r := &sl.records[j]; r.fd >= 0 {
				ps = append(ps, handle{l, uint32(i*slabSize + j), r.gen})
			}
		}
	}
	return ps
}

// check does what is due by the clock: hellos that did not come, pings, clients
// that are silent, stuck or do not leave.
func (l *loop) check() {
	l.mu.Lock()
	l.cuts = max(cutsAtOnce, len(l.stalls)/cutsShare)
	l.mu.Unlock()
	for i := 0; ; i++ {
		l.mu.Lock()
		if i == len(l.slabs) {
			l.mu.Unlock()
			return
		}
		sl := l.slabs[i]
		now := l.hub.clock()
		for j := range sl.records {
			if r := &sl.records[j]; r.fd >= 0 && r.flags&flagEnded == 0 {
				l.checkOne(handle{l, uint32(i*slabSize + j), r.gen}, r, now)
			}
		}
		l.mu.Unlock()
	}
}

func (l *loop) checkOne(c handle, r *record, now uint32) {
	opts := &l.hub.opts
	past := func(since uint32, d time.Duration) bool {
		return time.Duration(now-since)*time.Millisecond >= d // since is no later than now: both are read with l.mu held
	}
	switch {
	case r.flags&flagGone != 0:
		if past(r.mark, closeWithin) {
			l.hangUp(c, r, endServer, nil)
		}
		return
	case r.flags&flagStalled != 0:
		l.checkStall(c, r, past)
	}
	switch {
	case r.flags&(flagBye|flagEnded) != 0:
	case past(r.heard, opts.DeadAfter):
		l.cut(c, r, endSilent, errSilent(opts.DeadAfter))
	case r.flags&flagHello == 0:
		if past(r.mark, opts.HelloWithin) {
			l.say(c, r, ws.StatusPolicyViolation, "no hello in time", endHandshake, errNoHello)
		}
	case r.flags&flagStalled != 0 || !past(r.mark, opts.PingEvery):
	case !l.busy.Load() || past(r.mark, opts.PingEvery+opts.PingEvery/8): // deliveries come first
		r.mark = pinged(r.mark, now, opts.PingEvery)
		l.send(c, r, pingBytes)
	}
}

// cutsAtOnce and cutsShare bound how many stalled clients are cut in one check:
// so many, or that part of those there are, if that is more. The kernel has some
// 100 KB to give back of each.
const (
	cutsAtOnce = 64
	cutsShare  = 16
)

// checkStall sees to a client that takes nothing, or too little: it is told so,
// behind what is in flight, and cut when it does not take that either. Both wait
// a while for deliveries: those who stalled together are many, and what the
// kernel gives back of each is time that the healthy would wait.
func (l *loop) checkStall(c handle, r *record, past func(uint32, time.Duration) bool) {
	st := l.stalls[c.slot]
	opts := &l.hub.opts
	stuck := opts.StuckFor
	var tellLate, cutLate time.Duration
	if l.busy.Load() {
		tellLate, cutLate = stuck/8, stuck/2
	}
	if !st.told && r.flags&flagBye == 0 {
		if past(st.moved, stuck+tellLate) || past(st.began, opts.BatchWithin+tellLate) {
			now := l.hub.clock()
			st.told, st.own, st.count, st.moved, st.began = true, nil, 0, now, now
			l.say(c, r, statusTooSlow, "too slow", endSlow, errTooSlow)
		}
		return
	}
	if l.cuts > 0 && (past(st.moved, max(stuck/4, closeWithin)+cutLate) || past(st.began, max(stuck, opts.BatchWithin)+cutLate)) {
		l.cuts--
		l.cut(c, r, endSlow, errTooSlow)
	}
}
