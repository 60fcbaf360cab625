package broadcast

import (
	"context"
	"time"

	"github.com/veltrix/cairn"
)

// The sweep's period is a live knob within these bounds.
const (
	sweepKnob = "sweep"
	sweepMin  = 5 * time.Millisecond
	sweepMax  = 5 * time.Second
)

// sweepIdle is how often there is a sweep while nothing changes, if the period
// is shorter than that: a gateway that waits is woken by its clock as seldom as
// may be. What changes is swept a period after the sweep before it, at most.
const sweepIdle = 500 * time.Millisecond

// sweeps drives the sweep until ctx ends.
func (h *Hub) sweeps(ctx context.Context) {
	timer := time.NewTimer(h.period())
	defer timer.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.hurry: // the knob was turned
			timer.Reset(h.period())
			continue
		case <-h.news:
			if wait := h.period() - time.Since(last); wait > 0 {
				timer.Reset(wait)
				continue
			}
		case <-timer.C:
		}
		h.settle(ctx)
		last = time.Now()
		timer.Reset(h.sweep())
	}
}

// changed says that there is something to sweep.
func (h *Hub) changed() {
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// untilMove returns the time until a map opens or closes, but at least the
// period and at most sweepIdle. h.mu is held.
func (h *Hub) untilMove(now cairn.Instant) time.Duration {
	wait := h.opts.sweepIdle
	for _, hm := range h.life.state.byHunt {
		if at, ok := hm.nextMove(); ok {
			wait = min(wait, at.Sub(now))
		}
	}
	return max(wait, h.period())
}

// settleMax bounds how long a sweep waits for the one before it.
const settleMax = time.Second

// settle waits until the sweep before is delivered: on a machine that is at its
// limit, one larger delta is less work than two, and as late.
func (h *Hub) settle(ctx context.Context) {
	if h.delivered() {
		return
	}
	late := time.NewTimer(settleMax)
	defer late.Stop()
	for !h.delivered() {
		select {
		case <-ctx.Done():
			return
		case <-late.C:
			return
		case <-h.calm:
		}
	}
}

// delivered reports whether every recipient has delivered all that it has.
func (h *Hub) delivered() bool {
	all := true
	h.recipients(func(r recipient) { all = all && r.rested() })
	return all
}

// sweep encodes what changed since the last one, once a region, and hands it
// to the deliverers, and returns when to sweep next if nothing changes until
// then. It never waits for a connection.
func (h *Hub) sweep() time.Duration {
	start := time.Now()
	h.mu.Lock()
	if h.life == nil {
		h.mu.Unlock()
		return h.period()
	}
	h.seq++
	now := cairn.InstantOf(h.opts.Now())
	forgot := false
	for hunt, hm := range h.life.state.byHunt {
		held := len(hm.maps)
		h.advance(hunt, hm, now)
		forgot = forgot || len(hm.maps) != held
	}
	if forgot {
		h.publish()
	}
	changed := h.sweepBoards(h.sweepRegions(nil))
	for _, v := range changed {
		head := v.head.Load()
		v.head.Store(&batch{life: h.life, n: head.n + 1, prev: head.seq, seq: h.seq, frames: v.changed})
		v.changed = nil
	}
	newest := h.newest
	h.newest = 0
	next := h.untilMove(now)
	h.mu.Unlock()

	if len(changed) > 0 {
		h.recipients(func(r recipient) { r.sweep(changed, newest) })
	}
	h.metrics.sweep.Observe(time.Since(start).Seconds())
	return next
}

// advance moves a hunt's maps on, and tells its regions. h.mu is held.
func (h *Hub) advance(hunt cairn.HuntID, hm *huntMaps, now cairn.Instant) {
	opened, closed := hm.advance(now)
	h.index.moved(hunt, opened, closed)
}

// won tells the regions of a claim. h.mu is held. A claim opens its map at
// once, not at the next sweep: a region that is born in between would get the
// map without the claim.
func (h *Hub) won(w won, now cairn.Instant) {
	if w.first {
		h.advance(w.m.Hunt, h.life.state.byHunt[w.m.Hunt], now)
	}
	h.index.won(w)
	h.newest = max(h.newest, w.at)
}

// sweepRegions encodes each region that changed and has someone who watches
// it, and appends to changed the views that have it. It forgets the regions
// that nobody came back to.
func (h *Hub) sweepRegions(changed []*view) []*view {
	wait := h.index.dirty[:0]
	for _, r := range h.index.dirty {
		if r.pending() == 0 && len(r.views) > 0 { // left and watched again
			r.dirty = false
			continue
		}
		if len(r.views) == 0 {
			if h.seq-r.idle <= uint64(h.opts.Ring) && r.pending() <= unwatchedMax {
				wait = append(wait, r)
			} else {
				r.dirty = false
				h.index.drop(r)
			}
			continue
		}
		d := h.encode(r)
		r.push(d, h.opts.Ring, h.opts.RingBytes)
		r.dirty = false
		for v := range r.views {
			changed = v.add(d.frames[v.codec], changed)
		}
	}
	clear(h.index.dirty[len(wait):])
	h.index.dirty = wait
	return changed
}

// encode makes the delta of what a region collected, in each codec that is in
// use there.
func (h *Hub) encode(r *region) delta {
	d := delta{seq: h.seq}
	for codec := range codecs {
		if r.uses(codec, h.seq, h.opts.Ring) {
			f := newFrame(codec, kindDelta, h.seq, codec.encoder().appendDelta(room(codec.deltaRoom(r)), r, h.seq))
			h.metrics.encoded(f)
			d.frames[codec] = f
		}
	}
	return d
}

// Bytes that parts of a delta take, generously.
var deltaBytes = [codecs]struct{ frame, closed, claimed, opened, tile int }{
	JSON:  {256, 24, 160, 400, 80},
	Proto: {96, 8, 80, 128, 20},
}

// deltaRoom guesses how many bytes a region's delta takes, so that it is
// mostly one allocation.
func (c Codec) deltaRoom(r *region) int {
	each := &deltaBytes[c]
	n := each.frame + each.closed*len(r.closed) + each.claimed*len(r.claimed)
	for _, m := range r.opened {
		n += each.opened + each.tile*len(m.Tiles)>>(5*min(r.cell.Precision(), 2))
	}
	return n
}

// sweepBoards encodes each board that changed, in each codec in which someone
// watches it.
func (h *Hub) sweepBoards(changed []*view) []*view {
	for key, b := range h.boards {
		b.seq = h.seq
		hr := h.index.byHunt[key.Hunt]
		if hr == nil {
			continue
		}
		for v := range hr.standings {
			if !boardInView(key.Region, v.asked) {
				continue
			}
			told := b.forms[v.codec].frame
			if told == nil {
				told = b.frame(v.codec, h.opts.StandingRows)
				h.metrics.encoded(told)
			}
			changed = v.add(told, changed)
		}
	}
	clear(h.boards)
	return changed
}

// add puts a frame into the view's next batch, and the view into changed if
// it is not yet there.
func (v *view) add(f *frame, changed []*view) []*view {
	if len(v.changed) == 0 {
		changed = append(changed, v)
	}
	v.changed = append(v.changed, f)
	return changed
}
