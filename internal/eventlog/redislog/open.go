package redislog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// Open implements [eventlog.Store]. Three steps, each safe against others that
// do the same:
//
//  1. Seal the epoch: an entry at <epoch>-<max>. From now on Redis refuses
//     every record of that epoch and of those before, so the log stands still.
//  2. Read the last record.
//  3. Append the fence <epoch+1>-0, chained to that record, with a nonce. Of
//     several that try, Redis takes one; the others find another's nonce and
//     begin again.
func (s *Store) Open(ctx context.Context, log eventlog.Name) (eventlog.Writer, error) {
	if err := s.enter(ctx, log); err != nil {
		return nil, err
	}
	w := &writer{s: s, log: log}
	rand.Read(w.nonce[:]) // never fails
	within, cancel := context.WithTimeout(ctx, s.opts.ResolveMax)
	defer cancel()
	for b := (backoff{}); ; {
		had := s.topo.Load()
		err := w.takeOver(within)
		if err == nil {
			break
		}
		if w.link != nil {
			w.link.end(err)
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

var (
	errRaced = errors.New("another writer opened at the same time")
	errShort = errors.New("too few replicas have it") // a fence that is not acknowledged
)

// takeOver makes one attempt to become the log's writer.
func (w *writer) takeOver(ctx context.Context) error {
	l, err := w.s.lease(ctx, w.log)
	if err != nil {
		return err
	}
	w.link = l
	last, err := w.seal(ctx)
	if err != nil {
		return err
	}
	e := entry{genesis: last.genesis, volatile: last.volatile}
	e.Offset, e.Kind, e.Nonce = eventlog.Offset{Epoch: last.Offset.Epoch + 1}, eventlog.Fence, w.nonce
	e.Prev, e.Mark, e.From = last.Offset, last.Mark, last.From
	e.Chain = eventlog.NextChain(last.Chain, &e.Record)
	rs := l.do(ctx, w.s.xadd(l, w.log, &e, true),
		l.c.B().Xrange().Key(w.key()).Start(e.Offset.String()).End(e.Offset.String()).Build(),
		l.c.B().Xlen().Key(w.key()).Build())
	switch f := fateOf(rs[0].Error()); f {
	case landed, below: // below: perhaps by mine, whose answer was lost
	case missing:
		return fmt.Errorf("%w: no stream %s", eventlog.ErrMissing, w.key())
	default:
		return rs[0].Error()
	}
	// The marker is mine only if what stands there is.
	there, err := entries(rs[1])
	if err != nil {
		return err
	}
	if len(there) == 0 || there[0].Nonce != w.nonce || there[0].Chain != e.Chain {
		return errRaced
	}
	length, err := rs[2].AsInt64()
	if err != nil {
		return err
	}
	if err := l.wait(ctx, e.volatile); err != nil {
		return fmt.Errorf("fence %v: %w: %w", e.Offset, errShort, err)
	}
	w.volatile, w.genesis = e.volatile, e.genesis
	w.fence, w.from, w.last = e.Offset, e.From, e.Record
	w.anchor, w.length = e.Offset, length
	return nil
}

// seal ends the newest epoch and returns its last record.
func (w *writer) seal(ctx context.Context) (entry, error) {
	l, s := w.link, w.s
	newest := func() rueidis.Completed {
		return l.c.B().Xrevrange().Key(w.key()).End("+").Start("-").Count(2).Build()
	}
	rs := l.do(ctx, newest(), l.c.B().Pttl().Key(w.key()).Build())
	list, err := entries(rs[0])
	if err != nil {
		return entry{}, err
	}
	if len(list) == 0 {
		return entry{}, fmt.Errorf("%w: no stream %s", eventlog.ErrMissing, w.key())
	}
	if err := s.pin(w.log, list[0].genesis); err != nil {
		return entry{}, err
	}
	if err := s.ttlError(w.log, rs[1]); err != nil {
		return entry{}, err
	}
	if !list[0].sealed() {
		e := entry{genesis: list[0].genesis, volatile: list[0].volatile}
		e.Offset, e.Kind, e.Nonce = eventlog.Offset{Epoch: list[0].Offset.Epoch, Seq: sealSeq}, kindSeal, w.nonce
		rs = l.do(ctx, s.xadd(l, w.log, &e, true), newest())
		if f := fateOf(rs[0].Error()); f == missing {
			return entry{}, fmt.Errorf("%w: no stream %s", eventlog.ErrMissing, w.key())
		} else if f != landed && f != below {
			return entry{}, rs[0].Error()
		}
		if list, err = entries(rs[1]); err != nil {
			return entry{}, err
		}
	}
	if len(list) < 2 || !list[0].sealed() || list[1].sealed() {
		return entry{}, errRaced // another's fence is there by now
	}
	return list[1], s.pin(w.log, list[1].genesis)
}

// markLater has a durable mark appended when the writer was idle for
// MarkAfter. The caller holds mu.
func (w *writer) markLater() {
	if w.volatile || w.ended != nil || w.last.Kind == eventlog.Mark {
		return
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(w.s.opts.MarkAfter, w.markNow)
		return
	}
	w.timer.Reset(w.s.opts.MarkAfter)
}

// markNow appends a durable mark, unless a record did that since.
func (w *writer) markNow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended == nil && w.last.Kind != eventlog.Mark && w.s.ctx.Err() == nil {
		w.mark(w.s.ctx)
	}
}

// mark appends a durable mark. The caller holds mu.
func (w *writer) mark(ctx context.Context) {
	err := w.append(ctx, eventlog.Mark, nil, w.last.From)
	if err == nil {
		w.anchor = w.last.Offset // small, and never trimmed soon
	} else if errors.Is(err, eventlog.ErrPushback) {
		w.markLater()
	}
}
