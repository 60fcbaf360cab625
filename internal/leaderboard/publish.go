package leaderboard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// The standings log holds what was published in the last minute. Every board
// that is current is published anew within half of that, changed or not, so
// that whoever reads the log from its start knows them all.
const (
	keepFor   = time.Minute
	refreshes = keepFor / 2
	trimEvery = 5 * time.Second
)

// A publisher writes the boards that changed to the standings log. It opens
// the log, and so fences out whoever published before, once the projection has
// caught up and Options.Leader says so.
//
// Without a Leader it stands by when it is fenced out: it keeps folding, and
// takes over when claims have not been followed by a publication for
// Options.Takeover. So two that follow one store do not fence each other in
// turn, and need no agreement.
type publisher struct {
	p *Projection

	// Owned by run.
	w       eventlog.Writer // nil while standing by or between tries
	standby bool
	backoff time.Duration
	retry   time.Time // not before
	last    time.Time // of the last round
	head    eventlog.Offset
	polled  time.Time // standby: when head was looked at
	pending time.Time // standby: since when boards have waited with head where it is
	boards  []*board
	ats     []cairn.Instant
	shots   [snapshotStep]*wire.Board
	buf     []byte // the record that is being put together

	mu   sync.Mutex
	done []appended // oldest first
}

type appended struct {
	at     time.Time // when its round began
	offset eventlog.Offset
}

func newPublisher(p *Projection) *publisher { return &publisher{p: p} }

// run publishes until ctx ends. Only a standings log that is missing or
// damaged is an error.
func (u *publisher) run(ctx context.Context) error {
	defer u.close()
	refresh := time.NewTicker(refreshes)
	defer refresh.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var changed <-chan struct{}
		if u.p.opts.Leader != nil {
			changed = u.p.opts.Leader.Changed()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-u.p.wake:
		case <-timer.C:
		case <-refresh.C:
			u.p.touchCurrent()
		}
		if u.p.Ready() != nil {
			u.p.take(nil, nil) // what is of the past is not published
			u.p.published()
			continue
		}
		if u.p.opts.Leader != nil && !u.p.opts.Leader.Leads() {
			u.close()
			u.p.standBy()
			continue
		}
		if u.standby {
			timer.Reset(u.p.opts.Takeover / 5)
			if !u.takeOver(ctx) {
				continue
			}
		}
		wait, err := u.publish(ctx)
		if err != nil {
			return err
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// publish opens the log if it must, keeps the pace, and appends what changed.
// wait is when to try again, if it failed.
func (u *publisher) publish(ctx context.Context) (wait time.Duration, err error) {
	if d := time.Until(u.retry); d > 0 {
		return d, nil
	}
	if u.w == nil {
		w, err := u.p.store.Open(ctx, eventlog.Standings)
		if err != nil {
			return u.failed(fmt.Errorf("leaderboard: opening the standings log: %w", err))
		}
		u.w = w
		u.p.metrics.publishing.Set(1)
		u.p.touchCurrent()
	}
	if d := u.p.opts.Publish - time.Since(u.last); d > 0 {
		pace := time.NewTimer(d)
		defer pace.Stop()
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-pace.C:
		}
	}
	u.last = time.Now()
	if err := u.round(ctx); err != nil {
		return u.failed(fmt.Errorf("leaderboard: publishing: %w", err))
	}
	u.backoff = 0
	return 0, nil
}

// failed decides what an error means: an end, standing by, or another try.
func (u *publisher) failed(err error) (wait time.Duration, _ error) {
	u.p.metrics.publishes.WithLabelValues("failed").Inc()
	switch {
	case errors.Is(err, eventlog.ErrMissing), errors.Is(err, eventlog.ErrDamaged), errors.Is(err, eventlog.ErrTooLarge),
		errors.Is(err, eventlog.ErrClosed), errors.Is(err, context.Canceled):
		return 0, err
	case errors.Is(err, eventlog.ErrFenced):
		u.close()
		if u.p.opts.Leader != nil {
			u.p.opts.Leader.Fenced()
			return 0, nil
		}
		u.standby, u.pending, u.polled, u.head = true, time.Time{}, time.Time{}, eventlog.Offset{}
		u.p.opts.Log.Warn("another process publishes standings now: standing by", "err", err)
		return u.p.opts.Takeover / 5, nil
	case !errors.Is(err, eventlog.ErrPushback):
		u.close()
	}
	u.backoff = min(max(2*u.backoff, 20*time.Millisecond), time.Second)
	u.retry = time.Now().Add(u.backoff)
	u.p.opts.Log.Warn("standings are published late", "retry_in", u.backoff, "err", err)
	return u.backoff, nil
}

// round appends each board that changed since the last round, as many to a
// record as fit: so a round is one append or a few, whatever the number of
// hunts. Those that could not be appended stay on the list.
func (u *publisher) round(ctx context.Context) error {
	u.boards, u.ats = u.p.take(u.boards[:0], u.ats[:0])
	defer u.p.published()
	now := u.p.opts.Now()
	first, n := 0, 0 // the record has n of the boards from number first on
	u.buf = u.buf[:0]
	for i := range u.boards {
		if i%snapshotStep == 0 {
			u.snapshots(u.boards[i:min(i+snapshotStep, len(u.boards))])
		}
		x := u.shots[i%snapshotStep]
		if x == nil {
			continue
		}
		had := len(u.buf)
		u.buf = wire.AppendBoard(u.buf, x)
		if n > 0 && len(u.buf) > eventlog.BodyBytesMax {
			if err := u.append(ctx, u.buf[:had], n, now); err != nil {
				u.p.untake(u.boards[first:], u.ats)
				return err
			}
			u.buf = u.buf[:copy(u.buf, u.buf[had:])]
			first, n = i, 0
		}
		n++
	}
	if n > 0 {
		if err := u.append(ctx, u.buf, n, now); err != nil {
			u.p.untake(u.boards[first:], u.ats)
			return err
		}
	}
	done := cairn.InstantOf(u.p.opts.Now())
	for _, at := range u.ats {
		u.p.metrics.lag.Observe(max(0, done.Sub(at).Seconds()))
	}
	return nil
}

// append appends a record of n boards.
func (u *publisher) append(ctx context.Context, body []byte, n int, now time.Time) error {
	o, err := u.w.Append(ctx, body, eventlog.Offset{})
	if err != nil {
		return err
	}
	u.p.metrics.publishes.WithLabelValues("ok").Add(float64(n))
	u.p.metrics.bytes.Add(float64(len(body)))
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := len(u.done); n == 0 || now.Sub(u.done[n-1].at) >= time.Second {
		u.done = append(u.done, appended{now, o})
	}
	return nil
}

// snapshotStep is how many boards are looked at while the fold is held: some
// hundred microseconds. For one at a time the publisher would as often have to
// wait for those who fold, and they for it.
const snapshotStep = 16

// snapshots fills shots with boards as they stand, nil for one that is not
// published.
func (u *publisher) snapshots(boards []*board) {
	u.p.mu.RLock()
	defer u.p.mu.RUnlock()
	now := cairn.InstantOf(u.p.opts.Now()) // not before what is folded
	for i, b := range boards {
		u.shots[i] = nil
		if b.published(now) {
			u.shots[i] = u.p.fold.snapshot(b.key(), b, RowsPublished)
			u.shots[i].Published = now
		}
	}
}

// takeOver reports whether this process is to publish again: claims were
// folded, and nobody has published for Options.Takeover since.
func (u *publisher) takeOver(ctx context.Context) bool {
	u.p.standBy()
	now := time.Now()
	if now.Sub(u.polled) < u.p.opts.Takeover/5 {
		return false
	}
	u.polled = now
	st, err := u.p.store.Status(ctx, eventlog.Standings)
	if err != nil {
		return false
	}
	moved := st.Last != u.head
	if moved {
		u.head, u.pending = st.Last, time.Time{}
	}
	// A writer begins with all current boards: behind a mere fence there are none.
	if moved && st.Last.Seq != 0 {
		u.boards, u.ats = u.p.take(u.boards[:0], u.ats[:0]) // published by the other, or as good as
		u.p.published()
		return false
	}
	if u.pending.IsZero() {
		if u.p.changed() {
			u.pending = now
		}
		return false
	}
	if now.Sub(u.pending) < u.p.opts.Takeover {
		return false
	}
	u.p.opts.Log.Warn("standings were not published: taking over", "for", now.Sub(u.pending))
	u.standby = false
	return true
}

func (u *publisher) close() {
	if u.w != nil {
		u.w.Close()
		u.w = nil
	}
	u.p.metrics.publishing.Set(0)
}

// trim drops what was published over a minute ago, until ctx ends.
func (u *publisher) trim(ctx context.Context) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		u.trimNow(ctx)
	}
}

func (u *publisher) trimNow(ctx context.Context) {
	before, ok := u.stale(u.p.opts.Now().Add(-keepFor))
	if !ok {
		return
	}
	if err := u.p.store.Trim(ctx, eventlog.Standings, before); err != nil && ctx.Err() == nil {
		u.p.opts.Log.Warn("can't trim the standings log", "err", err)
	}
}

// stale returns the newest record of this publisher that is older than t, and
// forgets those before it.
func (u *publisher) stale(t time.Time) (before eventlog.Offset, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := 0
	for n < len(u.done) && u.done[n].at.Before(t) {
		before, ok = u.done[n].offset, true
		n++
	}
	u.done = u.done[:copy(u.done, u.done[n:])]
	return before, ok
}

// take moves the list of changed boards, and the ats of the claims folded since
// the last take, to the end of the two slices. Until published is called
// those claims still count in Lag.
func (p *Projection) take(boards []*board, ats []cairn.Instant) ([]*board, []cairn.Instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := cairn.InstantOf(p.opts.Now())
	for _, b := range p.fold.dirty {
		b.dirty = false
		if b.published(now) {
			boards = append(boards, b)
		} else {
			b.watched.Store(0) // nobody asks meanwhile: that would hold mu
		}
	}
	clear(p.fold.dirty)
	p.fold.dirty = p.fold.dirty[:0]
	ats = append(ats, p.live.ats...)
	p.live.ats = p.live.ats[:0]
	p.live.taken = p.live.oldest
	p.live.oldest = 0
	return boards, ats
}

// published says that what was taken is in the standings log, or not to be.
func (p *Projection) published() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live.taken = 0
}

// standBy says that claims folded so far are for another to publish. Boards
// that changed stay on the list: if that other ends now, nobody knows whether
// it had published them.
func (p *Projection) standBy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live.ats = p.live.ats[:0]
	p.live.oldest, p.live.taken = 0, 0
	p.fold.dirty = slices.DeleteFunc(p.fold.dirty, (*board).dropped)
}

// untake puts back what take took.
func (p *Projection) untake(boards []*board, ats []cairn.Instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live.taken != 0 && (p.live.oldest == 0 || p.live.taken < p.live.oldest) {
		p.live.oldest = p.live.taken
	}
	p.live.ats = append(p.live.ats, ats[:min(len(ats), unpublishedMax-len(p.live.ats))]...)
	for _, b := range boards {
		p.fold.touch(b)
	}
}

// changed reports whether there is a board to publish.
func (p *Projection) changed() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.fold.dirty) > 0
}

// touchCurrent puts each hunt's own boards on the list, changed or not: that
// of the hunt and that of the newest hour.
func (p *Projection) touchCurrent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.fold.hunts {
		for _, s := range [...]*span{h.all, h.hours[HourOf(p.fold.newest)]} {
			if s != nil {
				p.fold.touch(s.whole)
			}
		}
	}
}
