package redislog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// Open implements [eventlog.Store]. Three steps, each safe against others that
// do the same:
//
//  1. Seal the epoch: an entry at <epoch>-<max>. From now on Redis refuses
//     every record of that epoch and of those before, so the log stands still.
//  2. Watch the stream, and read the last record.
//  3. Append the fence <epoch+1>-0, chained to that record, with a nonce, in a
//     transaction that does nothing if the stream was touched since. Of several
//     that try, one gets it; the others begin again.
func (s *Store) Open(ctx context.Context, log eventlog.Name) (eventlog.Writer, error) {
	if err := s.enter(ctx, log); err != nil {
		return nil, err
	}
	w := &writer{s: s, log: log}
	within, cancel := s.world.within(ctx, s.opts.ResolveMax)
	defer cancel()
	for b := (backoff{world: s.world}); ; {
		had := s.topo.Load()
		err := w.takeOver(within)
		if err == nil {
			break
		}
		if w.link != nil {
			if errors.Is(err, errRaced) {
				w.link.end(nil) // it works
			} else {
				w.link.end(err)
			}
			w.link = nil
		}
		if errors.Is(err, eventlog.ErrMissing) || errors.Is(err, eventlog.ErrDamaged) || errors.Is(err, errShort) || fateOf(err) == refused {
			return nil, s.errorf(log, "open: %w", err)
		}
		if !errors.Is(err, errRaced) {
			_ = s.look(within, had)
		}
		if within.Err() != nil || !errors.Is(err, errRaced) && b.wait(within) != nil {
			return nil, s.errorf(log, "open: %w", errors.Join(ctx.Err(), err))
		}
	}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.writers[w] = struct{}{}
	}
	s.mu.Unlock()
	if closed {
		w.link.end(nil)
		return nil, s.errorf(log, "open: %w", eventlog.ErrClosed)
	}
	w.mu.Lock()
	w.markLater()
	w.mu.Unlock()
	return w, nil
}

// errRaced: another writer opens, or opened, at the same time.
var errRaced = errors.New("another writer opened at the same time")

// takeOver makes one attempt to become the log's writer.
func (w *writer) takeOver(ctx context.Context) error {
	l, err := w.s.lease(ctx, w.log)
	if err != nil {
		return err
	}
	w.link = l
	if w.nonce == (eventlog.Nonce{}) || w.s.keeps(ruleNonce) {
		rand.Read(w.nonce[:]) // never fails; anew, for the last fence tried may stand elsewhere, behind another record
	}
	last, err := w.seal()
	if err != nil {
		return err
	}
	e := entry{genesis: last.genesis, volatile: last.volatile}
	e.Offset, e.Kind, e.Nonce = eventlog.Offset{Epoch: last.Offset.Epoch + 1}, eventlog.Fence, w.nonce
	e.Prev, e.Mark, e.From = last.Offset, last.Mark, last.From
	e.Chain = eventlog.NextChain(last.Chain, &e.Record)
	b := l.c.B()
	rs := l.do(b.Multi().Build(), w.s.xadd(l, w.log, &e, true), b.Exec().Build(),
		l.watch(w.key()),
		b.Xrange().Key(w.key()).Start(e.Offset.String()).End(e.Offset.String()).Build(),
		b.Xlen().Key(w.key()).Build())
	switch err := executed(rs[1:3]); fateOf(err) {
	case landed:
	case below, changed:
		return errRaced
	case missing:
		return fmt.Errorf("%w: no stream %s", eventlog.ErrMissing, w.key())
	default:
		return err
	}
	w.volatile, w.genesis = e.volatile, e.genesis
	w.fence, w.from, w.last = e.Offset, e.From, e.Record
	w.tail = tail{}
	w.tail.add(last.Chain, &e)
	w.anchor = e.Offset
	if w.length, err = rs[5].AsInt64(); err != nil {
		return err
	}
	w.rearm(e.Offset, false, rs[3:6])
	if !w.s.keeps(ruleWaitFence) {
		w.safe = e.Mark
		return nil
	}
	return w.share(ctx, e.Mark)
}

// share returns once replicas have the fence, where appends wait for them;
// else it asks whether they do. mark is how far they had all before.
func (w *writer) share(ctx context.Context, mark eventlog.Offset) error {
	for b := (backoff{world: w.s.world}); w.link.waits(w.volatile); {
		rs := w.link.do(w.link.waitFor(), w.link.c.B().Xrange().Key(w.key()).Start(w.fence.String()).End(w.fence.String()).Build())
		err := w.link.waited(rs[0])
		if err == nil {
			err = w.stands(rs[1])
		}
		if err == nil {
			break
		}
		if !errors.Is(err, errShort) || b.wait(ctx) != nil {
			return fmt.Errorf("fence %v: %w", w.fence, err)
		}
	}
	w.safe = w.fence
	if w.asks() {
		w.safe = mark
		w.settle(ctx)
	}
	return nil
}

// stands returns nil if the fence is still there: the node may have lost it to
// another's failover and be the primary again, and WAIT counts by what has
// been written since.
func (w *writer) stands(r rueidis.RedisResult) error {
	list, err := entries(r)
	if err == nil && (len(list) != 1 || list[0].Nonce != w.nonce) {
		err = errRaced
	}
	return err
}

// seal ends the newest epoch, has the link watch the stream, and returns the
// epoch's last record.
func (w *writer) seal() (entry, error) {
	l, s := w.link, w.s
	rs := l.do(append(l.watched(w.key()), l.c.B().Pttl().Key(w.key()).Build())...)
	list, err := entries(rs[2])
	if err != nil {
		return entry{}, err
	}
	if len(list) == 0 {
		return entry{}, fmt.Errorf("%w: no stream %s", eventlog.ErrMissing, w.key())
	}
	if err := s.pin(w.log, list[0].genesis); err != nil {
		return entry{}, err
	}
	if err := s.ttlError(w.log, rs[3]); err != nil {
		return entry{}, err
	}
	if !list[0].sealed() {
		e := entry{genesis: list[0].genesis, volatile: list[0].volatile}
		e.Offset, e.Kind, e.Nonce = eventlog.Offset{Epoch: list[0].Offset.Epoch, Seq: sealSeq}, kindSeal, w.nonce
		rs = l.do(append(rueidis.Commands{s.xadd(l, w.log, &e, true)}, l.watched(w.key())...)...)
		if f := fateOf(rs[0].Error()); f == missing {
			return entry{}, fmt.Errorf("%w: no stream %s", eventlog.ErrMissing, w.key())
		} else if f != landed && f != below {
			return entry{}, rs[0].Error()
		}
		if list, err = entries(rs[3]); err != nil {
			return entry{}, err
		}
	}
	if len(list) < 2 || !list[0].sealed() || list[1].sealed() {
		return entry{}, errRaced // another's fence is there by now
	}
	return list[1], s.pin(w.log, list[1].genesis)
}

// marked reports whether nothing is left for a durable mark to tell.
func (w *writer) marked() bool {
	return w.volatile || w.last.Kind == eventlog.Mark && w.last.Mark == w.last.Prev
}

// markLater has a durable mark appended when the writer was idle for
// MarkAfter. The caller holds mu.
func (w *writer) markLater() {
	if w.ended != nil || w.marked() || !w.s.keeps(ruleIdleMark) {
		return
	}
	after := max(w.s.opts.MarkAfter, w.askAt.Sub(w.s.world.now()))
	if w.timer == nil {
		w.timer = w.s.world.after(after, w.markNow)
		return
	}
	w.timer.Reset(after)
}

// markNow appends a durable mark, unless a record did that since, or replicas
// lack what it would tell of. Where the link has failed it appends one in any
// case, which looks at the log anew, and puts back what a failover lost: nothing
// else would, while the writer is idle.
func (w *writer) markNow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil || w.marked() || w.s.ctx.Err() != nil {
		return
	}
	if w.settle(w.s.ctx); w.safe != w.last.Offset && w.link != nil {
		w.markLater()
		return
	}
	w.mark(w.s.ctx)
}

// mark appends a mark. The caller holds mu.
func (w *writer) mark(ctx context.Context) {
	err := w.append(ctx, eventlog.Mark, nil, w.last.From)
	if err == nil {
		w.anchor = w.last.Offset // small, and never trimmed soon
	} else if errors.Is(err, eventlog.ErrPushback) {
		w.markLater()
	}
}
