package mapgen

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

const (
	noteEvery     = time.Second // courses of hunts with new maps
	noteIdleEvery = time.Minute // courses of hunts without, so that a takeover's reading stays short
	probeEvery    = time.Second // silent shards, while money waits for them
	pushbackWait  = 20 * time.Millisecond
	idleWait      = 30 * time.Second // when no hunt is live
)

// step emits all maps that are due, in the order in which they open, and
// returns when to call it next.
func (l *life) step(ctx context.Context) (next cairn.Instant, err error) {
	for {
		now := l.now()
		l.settle(now)
		d, ok := l.nextDue(now)
		if !ok || d.due > now {
			next = now.Add(idleWait)
			if ok {
				next = min(next, d.due)
			}
			break
		}
		if err := l.emit(ctx, d); err != nil {
			return 0, err
		}
	}
	if err := l.note(ctx); err != nil {
		return 0, err
	}
	waiting, err := l.probe(ctx)
	if waiting {
		next = min(next, l.now().Add(probeEvery))
	}
	return next, err
}

func (l *life) now() cairn.Instant { return cairn.InstantOf(l.g.opts.Now()) }

// A duty is the next map of a hunt.
type duty struct {
	hunt    *cairn.HuntStatus
	tick    cairn.Tick
	due     cairn.Instant
	skipped cairn.Tick // ticks before it that were missed, and are closed
}

// nextDue returns the map that is to be emitted before all others.
func (l *life) nextDue(now cairn.Instant) (first duty, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, since := range l.since {
		h := l.hunts.Get(id)
		d := duty{hunt: h}
		d.tick, d.skipped = nextTick(&h.Hunt, l.lastTick(id), since.Add(l.g.opts.Lead), now)
		d.due = OpensAt(&h.Hunt, d.tick).Add(-l.g.opts.Lead)
		if !ok || d.due < first.due || d.due == first.due && id < first.hunt.Name {
			first, ok = d, true
		}
	}
	return first, ok
}

func (l *life) lastTick(id cairn.HuntID) cairn.Tick {
	if c := l.courses[id]; c != nil {
		return c.tick
	}
	return noTick
}

// nextTick returns the first tick behind last that opens at from or later and
// closes after now, and how many it passes over since they are closed.
func nextTick(h *cairn.Hunt, last cairn.Tick, from, now cairn.Instant) (tick, skipped cairn.Tick) {
	period := OpensAt(h, 1)
	tick = ceilDiv(from, period)
	if last != noTick {
		tick = max(tick, last+1)
	}
	lifetime := cairn.Instant(0).Add(time.Duration(h.Lifetime))
	open := floorDiv(now-lifetime, period) + 1
	if open > tick {
		return open, open - tick
	}
	return tick, 0
}

func floorDiv(a, b cairn.Instant) cairn.Tick {
	q := a / b
	if a%b < 0 {
		q--
	}
	return cairn.Tick(q)
}

func ceilDiv(a, b cairn.Instant) cairn.Tick { return -floorDiv(-a, b) }

// courseOf returns the course of a hunt, with the field of as many tiles as its
// maps have now. A new one is written before the hunt's first map. A hunt whose field can't be found, which nobody
// should have let through, is taken for not live: c and err are nil, as for a
// hunt that has ended meanwhile.
func (l *life) courseOf(ctx context.Context, h *cairn.HuntStatus) (*course, error) {
	l.mu.Lock()
	c := l.courses[h.Name]
	l.mu.Unlock()
	if c != nil && c.field != nil && c.tiles == h.TilesPerMap {
		return c, nil
	}
	f, err := NewField(h.Hunt)
	if err != nil {
		l.g.opts.Log.Error("mapgen: hunt has no maps", "hunt", string(h.Name), "err", err)
		l.mu.Lock()
		delete(l.since, h.Name)
		l.mu.Unlock()
		return nil, nil
	}
	if c == nil {
		c = newCourse(h.Reward.Budget, l.last)
		l.mu.Lock()
		if _, live := l.since[h.Name]; !live {
			l.mu.Unlock()
			return nil, nil // its course, and its money, went with its end
		}
		l.courses[h.Name] = c
		n := l.noteOf(h.Name, c)
		l.mu.Unlock()
		if err := l.writeNote(ctx, c, n); err != nil {
			return nil, err
		}
	}
	c.field, c.tiles = f, h.TilesPerMap
	return c, nil
}

// emit makes one map and appends it. When it returns nil, the map exists.
func (l *life) emit(ctx context.Context, d duty) error {
	c, err := l.courseOf(ctx, d.hunt)
	if c == nil {
		return err
	}
	l.mu.Lock()
	left := c.purse.left
	l.mu.Unlock()
	m := c.field.Make(l.g.key, &d.hunt.Hunt, d.tick, left, c.digest)
	for first := 0; first < len(m.Tiles); first += wire.TilesPerChunk {
		if _, err := l.append(ctx, wire.AppendMapChunk(l.body[:0], m, first)); err != nil {
			return err
		}
	}
	at, err := l.append(ctx, wire.AppendMapHeader(l.body[:0], &m.MapHeader))
	if err != nil {
		return err
	}
	l.mu.Lock()
	c.tick, c.digest = m.Tick, m.Digest
	c.purse.emit(&m.MapHeader, at)
	c.dirty = true
	l.mu.Unlock()
	l.measure(d, m)
	return nil
}

func (l *life) measure(d duty, m *cairn.Map) {
	late := l.now().Sub(d.due)
	l.g.metrics.lateness.Observe(max(0, late.Seconds()))
	l.g.metrics.emitted.Inc()
	if d.skipped > 0 {
		l.g.metrics.skipped.Add(float64(d.skipped))
		l.g.opts.Log.Warn("mapgen: ticks were missed and are closed", "hunt", string(m.Hunt), "count", int64(d.skipped), "next", int64(m.Tick))
	}
	if late > l.g.opts.Lead {
		l.g.opts.Log.Warn("mapgen: map was emitted after it opened", "hunt", string(m.Hunt), "tick", int64(m.Tick), "late", late)
	}
}

// append appends a body, in l.body's memory, and waits out a log that can't
// take it now.
func (l *life) append(ctx context.Context, body []byte) (eventlog.Offset, error) {
	l.body = body[:0]
	for {
		at, err := l.w.Append(ctx, body, l.from())
		if err == nil {
			l.last = at
			return at, nil
		}
		if !errors.Is(err, eventlog.ErrPushback) || ctx.Err() != nil {
			return at, fmt.Errorf("mapgen: %w", err)
		}
		t := time.NewTimer(pushbackWait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return at, fmt.Errorf("mapgen: %w", ctx.Err())
		}
	}
}

// from returns the oldest record that a takeover needs.
func (l *life) from() eventlog.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.last
	for _, c := range l.courses {
		if c.anchor.Less(from) {
			from = c.anchor
		}
	}
	return from
}

// note writes the courses that are due.
func (l *life) note(ctx context.Context) error {
	now := l.now()
	l.mu.Lock()
	var due []*wire.Course
	var of []*course
	for id, c := range l.courses {
		every := noteIdleEvery
		if c.dirty {
			every = noteEvery
		}
		if c.noted == 0 || now.Sub(c.noted) >= every {
			due, of = append(due, l.noteOf(id, c)), append(of, c)
		}
	}
	l.mu.Unlock()
	for i, n := range due {
		if err := l.writeNote(ctx, of[i], n); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) writeNote(ctx context.Context, c *course, n *wire.Course) error {
	at, err := l.append(ctx, wire.AppendCourse(l.body[:0], n))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.anchorAt(at)
	c.noted, c.dirty = l.now(), false
	return nil
}

// noteOf returns the record of a course.
func (l *life) noteOf(id cairn.HuntID, c *course) *wire.Course {
	n := &wire.Course{Hunt: id, Tick: c.tick, Digest: c.digest, Left: c.purse.left, Settled: c.purse.settled}
	for i := range l.shards {
		s := wire.CourseShard{From: l.shards[i].read, Read: l.shards[i].read}
		if len(c.purse.open) > 0 {
			s.From = l.shards[i].before(c.purse.open[0].opens)
		}
		// While what the purse was restored from is still being read again,
		// what it had then reaches farther.
		if i < len(c.replay) && s.Read.Less(c.replay[i].Read) {
			s.Read = c.replay[i].Read
		}
		n.Shards = append(n.Shards, s)
	}
	return n
}

// settle brings back what maps that are over did not give away.
func (l *life) settle(now cairn.Instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.shards {
		l.shards[i].surface(l.g.opts.Grace)
	}
	oldest := now
	for id, c := range l.courses {
		c.purse.settle(l.water)
		if len(c.purse.open) > 0 {
			oldest = min(oldest, c.purse.open[0].opens)
		}
		l.g.metrics.left.WithLabelValues(string(id)).Set(float64(c.purse.left))
		l.g.metrics.offered.WithLabelValues(string(id)).Set(float64(c.purse.offered()))
	}
	for i := range l.shards {
		l.shards[i].forget(oldest)
	}
}

// water returns the instant before which no claim will come any more in the
// first n shards.
func (l *life) water(n int) cairn.Instant {
	if n > len(l.shards) {
		return minInstant // it can't be known
	}
	w := cairn.Instant(math.MaxInt64)
	for i := range l.shards[:n] {
		w = min(w, l.shards[i].water)
	}
	return w
}

// probe looks at the heads of the silent shards that money waits for. It
// reports whether any does.
func (l *life) probe(ctx context.Context) (waiting bool, err error) {
	now := l.now()
	var silent []int
	l.mu.Lock()
	over := now.Add(-l.g.opts.Grace) // maps that closed before can be settled
	for i := range l.shards {
		s := &l.shards[i]
		for _, c := range l.courses {
			if len(c.purse.open) == 0 || c.purse.open[0].shards <= i {
				continue
			}
			closes := c.purse.open[0].closes
			waiting = waiting || s.water < closes
			if s.water < closes && closes <= over && s.probe == nil {
				silent = append(silent, i)
				break
			}
		}
	}
	l.mu.Unlock()
	for _, i := range silent {
		st, err := l.g.store.Status(ctx, eventlog.Shard(i))
		if err != nil {
			return waiting, fmt.Errorf("mapgen: %w", err)
		}
		l.mu.Lock()
		l.shards[i].probe = &probe{head: st.Last, at: now}
		l.mu.Unlock()
	}
	return waiting, nil
}
