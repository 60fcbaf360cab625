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
	timer timer

	// Redis watches the stream for the link since it was seen to end with
	// last: an append in MULTI is then done only if nothing touched the stream
	// in between. False where that is not known.
	armed bool

	// What tells with small replies that the stream ends with last: a record
	// of this writer with no body that is still there, and how many entries
	// there are. Only its own records can stand behind its fence, so a stream
	// that has the anchor and is as long as it should be has all.
	anchor eventlog.Offset // zero if none is known to be held
	length int64

	tail  tail            // its newest records, for a repair (R5)
	safe  eventlog.Offset // all up to here survives a failover, as far as is known
	askAt time.Time       // when to ask the replicas next, where appends do not wait for them
}

func (w *writer) key() string { return w.s.key(w.log) }

// Fence implements [eventlog.Writer].
func (w *writer) Fence() eventlog.Offset { return w.fence }

// From implements [eventlog.Writer].
func (w *writer) From() eventlog.Offset { return w.from }

// Append implements [eventlog.Writer].
func (w *writer) Append(ctx context.Context, body []byte, from eventlog.Offset) (eventlog.Offset, error) {
	began := w.s.world.now()
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
	w.s.metrics.appended(w.volatile, len(body), w.s.world.now().Sub(began))
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
		if e.Mark = w.safe; !w.s.keeps(ruleMark) {
			e.Mark = e.Offset
		}
	}
	e.Chain = eventlog.NextChain(w.last.Chain, &e.Record)
	err := w.commit(ctx, &e)
	if err == nil {
		w.took(&e)
		return nil
	}
	if !errors.Is(err, eventlog.ErrPushback) {
		w.end(err)
	}
	return err
}

// took notes that e, acknowledged, is the last record.
func (w *writer) took(e *entry) {
	if !w.volatile {
		w.tail.add(w.last.Chain, e)
	}
	w.last = e.Record
	w.last.Body = nil
	if w.link == nil || w.link.waits(w.volatile) || w.s.replicasOf(w.link.n) == 0 {
		w.safe = e.Offset
	}
}

// commit returns nil once e is acknowledged.
func (w *writer) commit(ctx context.Context, e *entry) error {
	if w.link == nil || !w.armed {
		return w.resolve(ctx, e, false, nil)
	}
	err := w.put(e)
	switch fateOf(err) {
	case landed:
		return nil
	case later, refused:
		return pushback(e.Offset, err) // not sent before: it is nowhere
	case elsewhere, below, missing, changed:
		return w.resolve(ctx, e, false, err)
	default:
		if !w.s.keeps(ruleSame) {
			return pushback(e.Offset, err)
		}
		return w.resolve(ctx, e, true, err)
	}
}

// errStops marks an error that is the append's outcome, however it was sent.
var errStops = errors.New("the writer stops")

// put sends e once, over a link that is armed, and returns nil if it is
// acknowledged, or else what it was answered with. What it was answered with
// tells by itself that e stands directly behind the last record: the stream
// was as it was seen, or e was refused.
func (w *writer) put(e *entry) error {
	l, key := w.link, w.key()
	at := w.anchor
	if at.IsZero() {
		at = e.Prev
	}
	b := l.c.B()
	cmds := append(make(rueidis.Commands, 0, 7),
		b.Multi().Build(), w.s.xadd(l, w.log, e, true), b.Exec().Build(),
		l.watch(key),
		b.Xrange().Key(key).Start(at.String()).End(at.String()).Build(),
		b.Xlen().Key(key).Build())
	asks := w.asks()
	switch {
	case l.waits(w.volatile):
		cmds = append(cmds, l.waitFor())
	case asks:
		cmds = append(cmds, l.ask())
	}
	w.armed = false
	rs := l.do(cmds...)
	err := executed(rs[1:3])
	if fateOf(err) == unheard {
		return err
	}
	w.rearm(at, err == nil, rs[3:6])
	switch {
	case err != nil:
		return err
	case l.waits(w.volatile):
		return l.waited(rs[6])
	case asks:
		w.heard(e.Offset, l.waited(rs[6]))
	}
	return nil
}

// executed returns the error of an XADD in a transaction, from its own reply
// and that of EXEC.
func executed(rs []rueidis.RedisResult) error {
	if err := rs[0].Error(); err != nil { // not queued, so EXEC did nothing
		return err
	}
	list, err := rs[1].ToArray()
	if rueidis.IsRedisNil(err) {
		return errChanged
	}
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("EXEC: no reply to XADD")
	}
	return list[len(list)-1].Error()
}

// rearm notes, from the replies of WATCH, XRANGE of the record at, and XLEN,
// whether the stream that is watched from now on ends with what this writer
// appended last.
func (w *writer) rearm(at eventlog.Offset, added bool, rs []rueidis.RedisResult) {
	if rs[0].Error() != nil {
		return
	}
	list, err := entries(rs[1])
	if err != nil {
		return
	}
	length, err := rs[2].AsInt64()
	if err != nil {
		return
	}
	held := len(list) == 1 && list[0].genesis == w.genesis && list[0].Nonce == w.nonce
	if !held && at == w.anchor {
		w.anchor = eventlog.Offset{} // trimmed
	}
	want := w.length
	if added {
		want++
	}
	w.armed = held && length == want || !w.s.keeps(ruleLook)
	w.length = want
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
	w.tail = tail{}
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
	if !w.marked() && w.s.keeps(ruleCloseMark) {
		ctx, cancel := w.s.world.within(w.s.ctx, w.s.opts.ReplyMax)
		// Now, or not before the next writer: replicas that are busy are asked
		// again. What no mark tells of is not there for whoever waits for one.
		for again := true; again; again = w.link != nil && w.asks() && w.safe != w.last.Offset && ctx.Err() == nil {
			w.askAt = time.Time{}
			w.settle(ctx)
			w.askAt = time.Time{}
		}
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
