package redislog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A writer implements [eventlog.Writer].
type writer struct {
	// Static after Open.
	s        *Store
	log      eventlog.Name
	volatile bool
	genesis  [16]byte
	nonce    eventlog.Nonce
	fence    eventlog.Offset
	from     eventlog.Offset

	mu    sync.Mutex // held while a record is under way: one at a time (R4)
	link  *link      // nil after one that failed
	last  eventlog.Record
	ended error // why no append is taken any more
	timer *time.Timer

	// What tells with small replies that the stream is the one this writer
	// knows: a record of its own with no body that is still there, and how
	// many entries there are. Only its own records can stand behind its fence,
	// so a stream that has the anchor and is as long as it should be has all.
	anchor eventlog.Offset // zero if none is known to be held
	length int64
}

func (w *writer) key() string { return w.s.key(w.log) }

// Fence implements [eventlog.Writer].
func (w *writer) Fence() eventlog.Offset { return w.fence }

// From implements [eventlog.Writer].
func (w *writer) From() eventlog.Offset { return w.from }

// Append implements [eventlog.Writer].
func (w *writer) Append(ctx context.Context, body []byte, from eventlog.Offset) (eventlog.Offset, error) {
	began := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil {
		return eventlog.Offset{}, w.errorf("%w", w.ended)
	}
	if len(body) > eventlog.BodyBytesMax {
		return eventlog.Offset{}, w.errorf("%w: %d bytes: want at most %d", eventlog.ErrTooLarge, len(body), eventlog.BodyBytesMax)
	}
	if err := ctx.Err(); err != nil {
		return eventlog.Offset{}, w.errorf("%w: %w", eventlog.ErrPushback, err)
	}
	if w.anchor.IsZero() && !w.volatile {
		// Trimmed away: a mark is a smaller one than the record before.
		if w.mark(ctx); w.ended != nil {
			return eventlog.Offset{}, w.errorf("%w", w.ended)
		}
	}
	if err := w.append(ctx, eventlog.Data, body, from); err != nil {
		return eventlog.Offset{}, w.errorf("%w", err)
	}
	w.markLater()
	w.s.metrics.appended(w.volatile, len(body), time.Since(began))
	return w.last.Offset, nil
}

// append adds a record behind the last one. On an error other than
// ErrPushback the writer has ended. The caller holds mu.
func (w *writer) append(ctx context.Context, kind eventlog.Kind, body []byte, from eventlog.Offset) error {
	e := entry{genesis: w.genesis, volatile: w.volatile}
	e.Record = eventlog.Record{
		Offset: eventlog.Offset{Epoch: w.fence.Epoch, Seq: w.last.Offset.Seq + 1},
		Kind:   kind,
		Nonce:  w.nonce,
		Prev:   w.last.Offset,
		From:   from,
		Body:   body,
	}
	if !w.volatile {
		e.Mark = w.last.Offset // acknowledged, and so is all before it
	}
	e.Chain = eventlog.NextChain(w.last.Chain, &e.Record)
	err := w.commit(ctx, &e)
	if err == nil {
		w.last = e.Record
		w.last.Body = nil
		return nil
	}
	if !errors.Is(err, eventlog.ErrPushback) {
		w.end(err)
	}
	return err
}

// commit returns nil once e is acknowledged.
func (w *writer) commit(ctx context.Context, e *entry) error {
	if w.link == nil {
		return w.resolve(ctx, e, false, nil)
	}
	err := w.put(ctx, e)
	switch fateOf(err) {
	case landed:
		return nil
	case later, refused:
		if errors.Is(err, errStops) {
			return err
		}
		return pushback(e.Offset, err) // not sent before: it is nowhere
	case missing:
		return fmt.Errorf("%w: no stream %s", eventlog.ErrMissing, w.key())
	case elsewhere, below:
		return w.resolve(ctx, e, false, err)
	default:
		if errors.Is(err, errStops) {
			return err
		}
		return w.resolve(ctx, e, true, err)
	}
}

// errStops marks an error that is the append's outcome, however it was sent.
var errStops = errors.New("the writer stops")

// put sends e once, and returns nil if it is acknowledged, or the error that
// XADD was answered with, or one that is errStops.
func (w *writer) put(ctx context.Context, e *entry) error {
	l := w.link
	at := w.anchor
	if at.IsZero() {
		at = e.Prev
	}
	cmds := make(rueidis.Commands, 0, 4)
	cmds = append(cmds, w.s.xadd(l, w.log, e, true),
		l.c.B().Xrange().Key(w.key()).Start(at.String()).End(at.String()).Build(),
		l.c.B().Xlen().Key(w.key()).Build())
	if l.waits(w.volatile) {
		cmds = append(cmds, l.waitFor())
	}
	rs := l.do(ctx, cmds...)
	if err := rs[0].Error(); err != nil {
		return err
	}
	// It is in a stream: but is it this log's, with all that was before?
	for _, r := range rs[1:] {
		if err := r.Error(); err != nil {
			return unheardError{err}
		}
	}
	if err := w.connected(ctx, e, at, rs[1], rs[2]); err != nil {
		return err
	}
	if l.waits(w.volatile) {
		if err := l.waited(rs[3]); err != nil {
			return fmt.Errorf("%w: %w", errStops, unknown(e.Offset, err))
		}
	}
	return nil
}

// unheardError is an answer that leaves open what came of the append.
type unheardError struct{ err error }

func (u unheardError) Error() string { return u.err.Error() }

// connected returns nil if e, which has landed, stands behind all that this
// writer had appended before.
func (w *writer) connected(ctx context.Context, e *entry, at eventlog.Offset, anchor, xlen rueidis.RedisResult) error {
	list, err := entries(anchor)
	if err != nil {
		return fmt.Errorf("%w: %w", errStops, unknown(e.Offset, err))
	}
	length, err := xlen.AsInt64()
	if err != nil {
		return unheardError{err}
	}
	held := len(list) == 1 && list[0].genesis == w.genesis && list[0].Nonce == w.nonce
	if held && at == e.Prev && list[0].Chain == w.last.Chain || held && length == w.length+1 {
		w.length = length
		return nil
	}
	// Trimmed, or fenced behind e, or worse. What stands before e tells.
	l := w.link
	rs := l.do(ctx,
		l.c.B().Xrevrange().Key(w.key()).End(e.Offset.String()).Start("-").Count(2).Build(),
		l.c.B().Xlen().Key(w.key()).Build())
	for _, r := range rs {
		if err := r.Error(); err != nil {
			return unheardError{err}
		}
	}
	if list, err = entries(rs[0]); err == nil {
		err = w.behindMine(e, list)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errStops, err)
	}
	w.length, _ = rs[1].AsInt64()
	if !held {
		w.anchor = eventlog.Offset{}
	}
	return nil
}

// behindMine checks the newest entries up to e: e itself, and this writer's
// last before it, unless e is all that a trim left.
func (w *writer) behindMine(e *entry, list []entry) error {
	if len(list) == 0 || list[0].Chain != e.Chain || list[0].Nonce != e.Nonce {
		return unknown(e.Offset, errors.New("it landed, and is gone"))
	}
	if len(list) == 1 {
		return nil
	}
	switch p := list[1]; {
	case p.genesis != w.genesis:
		return fmt.Errorf("%w: genesis is %x, was %x", eventlog.ErrMissing, p.genesis, w.genesis)
	case p.Offset != w.last.Offset || p.Chain != w.last.Chain:
		return unknown(e.Offset, fmt.Errorf("it stands behind %v, want %v: the log was rolled back", p.Offset, w.last.Offset))
	}
	return nil
}

// end ends the writer. The caller holds mu.
func (w *writer) end(err error) {
	if w.ended != nil {
		return
	}
	w.ended = err
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.link != nil {
		w.link.c.Close() // nothing of it lands any more once Redis sees that
		w.link.release()
		w.link = nil
	}
	w.s.mu.Lock()
	delete(w.s.writers, w)
	w.s.mu.Unlock()
}

// Close implements [eventlog.Writer]. It appends a last durable mark, so that
// whoever pays need not wait for the next writer.
func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil {
		return nil
	}
	if !w.volatile && w.last.Kind != eventlog.Mark {
		ctx, cancel := context.WithTimeout(w.s.ctx, w.s.opts.ReplyMax)
		w.mark(ctx)
		cancel()
	}
	if w.ended != nil {
		return nil
	}
	if w.link != nil { // healthy: another writer may have it
		w.link.end(nil)
		w.link = nil
	}
	w.end(eventlog.ErrClosed)
	return nil
}

func (w *writer) errorf(format string, args ...any) error {
	return w.s.errorf(w.log, "epoch %d: %w", w.fence.Epoch, fmt.Errorf(format, args...))
}
