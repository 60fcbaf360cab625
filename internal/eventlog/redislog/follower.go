package redislog

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A follower implements [eventlog.Follower].
type follower struct {
	// Static.
	s    *Store
	feed *feed

	// Owned by the caller, one goroutine at a time.
	at      eventlog.Offset // the record returned last
	chain   eventlog.Chain  // of that
	known   bool            // chain is; not behind a record that was trimmed
	durable eventlog.Offset
	lent    []eventlog.Record // what was read behind the ring

	closed atomic.Bool
}

// Follow implements [eventlog.Store].
func (s *Store) Follow(ctx context.Context, log eventlog.Name, after eventlog.Offset) (eventlog.Follower, error) {
	if err := s.enter(ctx, log); err != nil {
		return nil, err
	}
	start := "-"
	if !after.IsZero() {
		start = after.String()
	}
	rs, err := s.read(ctx, log, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{
			b.Xrevrange().Key(s.key(log)).End("+").Start("-").Count(2).Build(),
			b.Xrange().Key(s.key(log)).Start(start).End("+").Count(3).Build(),
		}
	})
	if err != nil {
		return nil, s.errorf(log, "follow: %w", err)
	}
	last, err := s.newest(log, rs[0])
	if err != nil {
		return nil, s.errorf(log, "follow: %w", err)
	}
	behind, err := entries(rs[1])
	if err != nil {
		return nil, s.errorf(log, "follow: %w", err)
	}
	w := &follower{s: s, at: after, known: after.IsZero(), durable: last.Mark}
	if err := w.begin(last, records(behind)); err != nil {
		return nil, s.errorf(log, "follow from %v: %w", after, err)
	}
	if w.feed, err = s.feed(log, last); err != nil {
		return nil, s.errorf(log, "%w", err)
	}
	return w, nil
}

// begin checks where the follower starts: behind has the newest records from
// there on, itself included if it is held.
func (w *follower) begin(last entry, behind []entry) error {
	switch {
	case len(behind) == 0: // seals aside
		return fmt.Errorf("%w: the log ends at %v", eventlog.ErrDiverged, last.Offset)
	case behind[0].Offset == w.at:
		w.chain, w.known = behind[0].Chain, true
		return nil
	case w.at.Less(behind[0].Prev):
		return fmt.Errorf("%w: the oldest record behind it is %v", eventlog.ErrTrimmed, behind[0].Offset)
	case behind[0].Prev != w.at:
		return fmt.Errorf("%w: the log skips from %v to %v", eventlog.ErrDiverged, behind[0].Prev, behind[0].Offset)
	}
	return nil
}

// Next implements [eventlog.Follower].
func (w *follower) Next(ctx context.Context) ([]eventlog.Record, eventlog.Offset, error) {
	for {
		recs, changed, err := w.step(ctx)
		if err != nil {
			return nil, eventlog.Offset{}, w.errorf(err)
		}
		if len(recs) > 0 {
			return recs, w.durable, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-w.s.ctx.Done():
		}
	}
}

// step returns the records that there are behind the last one returned, or
// what to wait for if there is none.
func (w *follower) step(ctx context.Context) (recs []eventlog.Record, changed <-chan struct{}, err error) {
	if err := w.over(ctx); err != nil {
		return nil, nil, err
	}
	recs, behind, changed, err := w.fromRing()
	if err == nil && behind {
		recs, err = w.fromRedis(ctx)
	}
	if err != nil || len(recs) == 0 {
		return nil, changed, err
	}
	last := &recs[len(recs)-1]
	w.at, w.chain, w.known = last.Offset, last.Chain, true
	if w.durable.Less(last.Mark) {
		w.durable = last.Mark
	}
	return recs, nil, nil
}

// over returns why nothing is returned any more.
func (w *follower) over(ctx context.Context) error {
	w.s.mu.Lock()
	closed := w.s.closed
	w.s.mu.Unlock()
	if closed || w.closed.Load() {
		return eventlog.ErrClosed
	}
	return ctx.Err()
}

// fromRing returns the feed's records behind the last one returned, or that
// the follower is behind what the feed still has, or what to wait for.
func (w *follower) fromRing() (recs []eventlog.Record, behind bool, changed <-chan struct{}, err error) {
	f := w.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, false, nil, f.err
	}
	if w.at.Less(f.ring[0].Offset) {
		return nil, true, nil, nil
	}
	if w.durable.Less(f.durable) {
		w.durable = f.durable
	}
	i, found := slices.BinarySearchFunc(f.ring, w.at, func(r eventlog.Record, o eventlog.Offset) int { return r.Offset.Compare(o) })
	if !found {
		if i == len(f.ring) {
			return nil, false, f.changed, nil // it read ahead of the feed
		}
		return nil, false, nil, fmt.Errorf("%w: %v is gone", eventlog.ErrDiverged, w.at)
	}
	if w.known && f.ring[i].Chain != w.chain {
		return nil, false, nil, fmt.Errorf("%w: %v is another record", eventlog.ErrDiverged, w.at)
	}
	recs = f.ring[i+1:]
	if len(recs) > pollCount {
		recs = recs[:pollCount]
	}
	w.s.metrics.fromRing.Add(float64(len(recs)))
	return recs, false, f.changed, nil
}

// fromRedis reads behind the last record returned.
func (w *follower) fromRedis(ctx context.Context) ([]eventlog.Record, error) {
	log := w.feed.log
	start := "-"
	if !w.at.IsZero() {
		start = "(" + w.at.String()
	}
	rs, err := w.s.read(ctx, log, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Xrange().Key(w.s.key(log)).Start(start).End("+").Count(pollCount).Build()}
	})
	if err != nil {
		return nil, err
	}
	list, err := entries(rs[0])
	if err != nil {
		return nil, err
	}
	if list = records(list); len(list) == 0 {
		return nil, fmt.Errorf("%w: the log ends before %v", eventlog.ErrDiverged, w.at)
	}
	if err := w.s.continues(w.feed.genesis, w.at, w.chain, w.known, list); err != nil {
		return nil, w.s.blame(log, w.at, w.chain, err)
	}
	w.lent = w.lent[:0]
	for i := range list {
		w.lent = append(w.lent, list[i].Record)
	}
	w.s.metrics.fromRedis.Add(float64(len(list)))
	return w.lent, nil
}

// Close implements [eventlog.Follower].
func (w *follower) Close() error {
	if w.closed.CompareAndSwap(false, true) {
		w.feed.leave()
	}
	return nil
}

func (w *follower) errorf(err error) error { return w.s.errorf(w.feed.log, "follow: %w", err) }
