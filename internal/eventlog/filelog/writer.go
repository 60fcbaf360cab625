package filelog

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A writer implements [eventlog.Writer].
type writer struct {
	// Static.
	s     *Store
	l     *logState
	fence eventlog.Offset
	from  eventlog.Offset
	nonce eventlog.Nonce

	// Owned by the caller, one goroutine at a time.
	ended error // why no append is taken any more
}

// Open implements [eventlog.Store]. The fence is synced on volatile logs too,
// so that no epoch ever begins twice.
func (s *Store) Open(ctx context.Context, log eventlog.Name) (eventlog.Writer, error) {
	l, err := s.log(log)
	if err != nil {
		return nil, err
	}
	if s.opts.ReadOnly {
		return nil, s.errorf("log %s: opened read-only: no writer", log)
	}
	if err := l.take(ctx, s); err != nil {
		return nil, s.errorf("log %s: open: %w", log, err)
	}
	w := &writer{s: s, l: l}
	rand.Read(w.nonce[:]) // never fails
	l.mu.Lock()
	last, durable := l.last, l.durable
	l.mu.Unlock()
	r := &eventlog.Record{
		Offset: eventlog.Offset{Epoch: last.Offset.Epoch + 1},
		Kind:   eventlog.Fence,
		Nonce:  w.nonce,
		Prev:   last.Offset,
		Mark:   durable,
		From:   last.From,
	}
	r.Chain = eventlog.NextChain(last.Chain, r)
	w.fence, w.from = r.Offset, r.From
	if err := s.commit(ctx, l, r, true); err != nil {
		return nil, s.errorf("log %s: open: %w", log, err)
	}
	return w, nil
}

// Fence implements [eventlog.Writer].
func (w *writer) Fence() eventlog.Offset { return w.fence }

// From implements [eventlog.Writer].
func (w *writer) From() eventlog.Offset { return w.from }

// Append implements [eventlog.Writer].
func (w *writer) Append(ctx context.Context, body []byte, from eventlog.Offset) (eventlog.Offset, error) {
	began := time.Now()
	if w.ended != nil {
		return eventlog.Offset{}, w.errorf("%w", w.ended)
	}
	if len(body) > eventlog.BodyBytesMax {
		return eventlog.Offset{}, w.errorf("%w: %d bytes: want at most %d", eventlog.ErrTooLarge, len(body), eventlog.BodyBytesMax)
	}
	if err := ctx.Err(); err != nil {
		return eventlog.Offset{}, w.errorf("%w: %w", eventlog.ErrPushback, err)
	}
	if err := w.l.take(ctx, w.s); err != nil {
		if ctx.Err() != nil {
			return eventlog.Offset{}, w.errorf("%w: %w", eventlog.ErrPushback, err)
		}
		w.ended = err
		return eventlog.Offset{}, w.errorf("%w", err)
	}
	w.l.mu.Lock()
	last, durable, epoch := w.l.last, w.l.durable, w.l.epoch
	w.l.mu.Unlock()
	if epoch != w.fence.Epoch {
		w.l.release()
		w.ended = eventlog.ErrFenced
		return eventlog.Offset{}, w.errorf("%w: epoch %d began", w.ended, epoch)
	}
	r := &eventlog.Record{
		Offset: eventlog.Offset{Epoch: epoch, Seq: last.Offset.Seq + 1},
		Kind:   eventlog.Data,
		Nonce:  w.nonce,
		Prev:   last.Offset,
		Mark:   durable,
		From:   from,
		Body:   slices.Clone(body),
	}
	r.Chain = eventlog.NextChain(last.Chain, r)
	if err := w.s.commit(ctx, w.l, r, !w.l.volatile); err != nil {
		w.ended = err
		return eventlog.Offset{}, w.errorf("%w", err)
	}
	w.s.metrics.appended(w.l.volatile, len(body), time.Since(began))
	return r.Offset, nil
}

// Close implements [eventlog.Writer].
func (w *writer) Close() error {
	if w.ended == nil {
		w.ended = eventlog.ErrClosed
	}
	return nil
}

func (w *writer) errorf(format string, args ...any) error {
	return w.s.errorf("log %s, epoch %d: %w", w.l.name, w.fence.Epoch, fmt.Errorf(format, args...))
}

// commit writes r and the head that goes with it, and publishes r once it is
// acknowledged. The caller holds the log's turn; commit releases it when the
// outcome is known. If ctx ends before that, it returns ErrUnknown, and the
// write goes on by itself. It keeps r.
func (s *Store) commit(ctx context.Context, l *logState, r *eventlog.Record, sync bool) error {
	if err := s.enter(); err != nil {
		l.release()
		return err
	}
	// The database can't be told to stop waiting, and may end the goroutine's
	// work for good where it fails (fatal): it gets one that can be spared.
	outcome := make(chan error, 1)
	j := job{l, r, sync, outcome}
	select {
	case s.jobs <- j:
	default: // all are at work
		s.workers.Go(func() { s.work(j) })
	}
	select {
	case err := <-outcome:
		if err != nil {
			return fmt.Errorf("%w: record %v: %w", eventlog.ErrUnknown, r.Offset, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: record %v: %w", eventlog.ErrUnknown, r.Offset, ctx.Err())
	case <-s.failed:
		return fmt.Errorf("%w: record %v: %w", eventlog.ErrUnknown, r.Offset, s.failureErr())
	}
}

// A job is one record to write, by whoever holds its log's turn.
type job struct {
	l       *logState
	r       *eventlog.Record
	sync    bool
	outcome chan<- error
}

// work writes j and then what else comes, until Close. Goroutines are kept
// because a new one has to grow its stack first: a quarter of the time.
func (s *Store) work(j job) {
	for {
		s.do(j)
		select {
		case j = <-s.jobs:
		case <-s.done:
			return
		}
	}
}

func (s *Store) do(j job) {
	err := s.write(j.l, j.r, j.sync)
	if err != nil {
		s.fail(fmt.Errorf("log %s: record %v: %w", j.l.name, j.r.Offset, err))
	}
	j.l.release() // before the caller, who may be back at once
	s.inside.Done()
	j.outcome <- err
}

var (
	synced   = pebble.Sync
	unsynced = pebble.NoSync
)

// write makes r durable if sync is set, and then publishes it.
func (s *Store) write(l *logState, r *eventlog.Record, sync bool) error {
	b := s.db.NewBatchWithSize(recordBytes(r) + 256)
	if err := putRecord(b, l, r); err != nil {
		return err
	}
	how := unsynced
	if sync {
		how = synced
	}
	if err := s.db.Apply(b, how); err != nil {
		return err
	}
	if err := b.Close(); err != nil {
		return err
	}
	if s.failureErr() != nil { // another log's write failed: ours may rest on it
		return s.failureErr()
	}
	if sync {
		// Behind the sync: a mark never stands ahead of what is durable.
		if err := s.marks.set(l.slot, l.name, r.Offset); err != nil {
			return err
		}
	}
	l.publish(r, sync)
	return nil
}

// putRecord adds r and its head to a batch.
func putRecord(b *pebble.Batch, l *logState, r *eventlog.Record) error {
	var buf [128]byte
	op := b.SetDeferred(len(l.name)+18, recordBytes(r))
	appendRecordKey(op.Key[:0], l.name, r.Offset)
	appendRecord(op.Value[:0], r)
	if err := op.Finish(); err != nil {
		return err
	}
	h := head{volatile: l.volatile, genesis: l.genesis, offset: r.Offset, chain: r.Chain}
	key := appendKey(buf[:0], keyHead, l.name)
	return b.Set(key, h.appendTo(key[len(key):]), nil)
}

func (s *Store) failureErr() error {
	select {
	case <-s.failed:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.failure
	default:
		return nil
	}
}
