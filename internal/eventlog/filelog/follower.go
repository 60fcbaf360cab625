package filelog

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/veltrix/cairn/internal/eventlog"
)

// What one call of Next returns at most (one record at least).
const (
	nextRecordsMax = 512
	nextBytesMax   = 1 << 20
)

// A follower implements [eventlog.Follower].
type follower struct {
	// Static.
	s *Store
	l *logState

	// Owned by the caller, one goroutine at a time.
	after   eventlog.Offset
	chain   eventlog.Chain // of the record at after
	durable eventlog.Offset
	recs    []eventlog.Record
	bodies  []byte // of recs, where they were read from disk
	closed  bool
}

// Follow implements [eventlog.Store].
func (s *Store) Follow(_ context.Context, log eventlog.Name, after eventlog.Offset) (eventlog.Follower, error) {
	l, err := s.log(log)
	if err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.inside.Done()
	f := &follower{s: s, l: l, after: after}
	if f.chain, err = s.chainAt(l, after); err != nil {
		return nil, s.errorf("log %s: follow from %v: %w", log, after, err)
	}
	l.mu.Lock()
	f.durable = l.durable
	l.mu.Unlock()
	return f, nil
}

// chainAt returns the chain hash of the record at o, which a follower may
// follow from.
func (s *Store) chainAt(l *logState, o eventlog.Offset) (eventlog.Chain, error) {
	l.mu.Lock()
	last, base := l.last, l.base
	inRing, found := l.ring.at(o)
	l.mu.Unlock()
	switch {
	case o.Less(base.offset):
		return eventlog.Chain{}, fmt.Errorf("%w: the log begins behind %v", eventlog.ErrTrimmed, base.offset)
	case o == base.offset: // the zero Offset of a log that is whole, too
		return base.chain, nil
	case last.Offset.Less(o):
		return eventlog.Chain{}, fmt.Errorf("%w: the log ends at %v", eventlog.ErrDiverged, last.Offset)
	case o == last.Offset:
		return last.Chain, nil
	case found:
		return inRing.Chain, nil
	}
	var r eventlog.Record
	err := readRecord(s.db, l.name, o, &r)
	if errors.Is(err, pebble.ErrNotFound) {
		return eventlog.Chain{}, fmt.Errorf("%w: it has no such record", eventlog.ErrDiverged)
	}
	if err != nil {
		return eventlog.Chain{}, s.damage(err)
	}
	return r.Chain, nil
}

// Next implements [eventlog.Follower].
func (f *follower) Next(ctx context.Context) ([]eventlog.Record, eventlog.Offset, error) {
	recs, durable, err := f.next(ctx)
	if err != nil && ctx.Err() == nil {
		err = f.s.errorf("log %s: follow: %w", f.l.name, err)
	}
	return recs, durable, err
}

func (f *follower) next(ctx context.Context) ([]eventlog.Record, eventlog.Offset, error) {
	if f.closed {
		return nil, f.durable, eventlog.ErrClosed
	}
	for {
		select {
		case <-ctx.Done():
			return nil, f.durable, ctx.Err()
		case <-f.s.done:
			return nil, f.durable, eventlog.ErrClosed
		default:
		}
		l := f.l
		l.mu.Lock()
		if f.after.Less(l.base.offset) {
			l.mu.Unlock()
			return nil, f.durable, fmt.Errorf("%w: at %v, the log begins behind %v", eventlog.ErrTrimmed, f.after, l.base.offset)
		}
		last := l.last.Offset
		moved := f.durable != l.durable
		f.durable = l.durable
		switch recent, ok := l.ring.behind(f.after); {
		case f.after == last && moved:
			l.mu.Unlock()
			return nil, f.durable, nil
		case f.after == last:
			wake := l.moved()
			l.mu.Unlock()
			select {
			case <-wake:
			case <-ctx.Done():
			case <-f.s.done:
			}
		case ok:
			f.takeRing(recent)
			l.mu.Unlock()
			return f.recs, f.durable, nil
		default:
			l.mu.Unlock()
			err := f.readDisk(last)
			return f.recs, f.durable, err
		}
	}
}

// takeRing takes records out of the ring, whose lock is held. Their bodies
// never change, so that they need not be copied.
func (f *follower) takeRing(recent []eventlog.Record) {
	n, bytes := 0, 0
	for n < len(recent) && n < nextRecordsMax && (n == 0 || bytes+len(recent[n].Body) <= nextBytesMax) {
		bytes += len(recent[n].Body)
		n++
	}
	f.recs = append(f.recs[:0], recent[:n]...)
	f.after, f.chain = recent[n-1].Offset, recent[n-1].Chain
	f.s.metrics.fromRing.Add(float64(n))
}

// readDisk reads records behind after and not behind last, which is behind
// after, and checks their chain.
func (f *follower) readDisk(last eventlog.Offset) error {
	if err := f.s.enter(); err != nil {
		return eventlog.ErrClosed
	}
	defer f.s.inside.Done()
	f.recs, f.bodies = f.recs[:0], f.bodies[:0]
	it, err := f.s.db.NewIter(&pebble.IterOptions{
		LowerBound: appendRecordKey(nil, f.l.name, eventlog.Offset{Epoch: f.after.Epoch, Seq: f.after.Seq + 1}),
		UpperBound: appendRecordKey(nil, f.l.name, eventlog.Offset{Epoch: last.Epoch, Seq: last.Seq + 1}),
	})
	if err != nil {
		return f.s.damage(err)
	}
	for ok := it.First(); ok && err == nil && len(f.recs) < nextRecordsMax && len(f.bodies) < nextBytesMax; ok = it.Next() {
		err = f.readOne(it)
	}
	if iterErr := it.Close(); iterErr != nil {
		err = f.s.damage(fmt.Errorf("behind %v: %w", f.after, iterErr))
	}
	if err == nil && len(f.recs) == 0 {
		err = fmt.Errorf("%w: the record behind %v is gone", eventlog.ErrDamaged, f.after)
	}
	if err != nil && f.trimmed() {
		err = fmt.Errorf("%w: at %v", eventlog.ErrTrimmed, f.after)
	}
	if err != nil && len(f.recs) > 0 {
		return nil // give what is whole; the next call finds the damage again
	}
	if err != nil {
		return err
	}
	f.s.metrics.fromDisk.Add(float64(len(f.recs)))
	return nil
}

// readOne reads the record that it stands on, which must be the one directly
// behind f.after.
func (f *follower) readOne(it *pebble.Iterator) error {
	o, err := recordKeyOffset(it.Key())
	if err != nil {
		return fmt.Errorf("%w: behind %v: %w", eventlog.ErrDamaged, f.after, err)
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return f.s.damage(fmt.Errorf("record %v: %w", o, err))
	}
	// Where append has to grow bodies, the records before keep the old array.
	from := len(f.bodies)
	f.bodies = append(f.bodies, v...)
	var r eventlog.Record
	if err := decodeRecord(&r, o, f.bodies[from:len(f.bodies):len(f.bodies)]); err != nil {
		return fmt.Errorf("%w: record %v: %w", eventlog.ErrDamaged, o, err)
	}
	if err := checkNext(f.after, f.chain, &r); err != nil {
		return fmt.Errorf("%w: %w", eventlog.ErrDamaged, err)
	}
	f.recs = append(f.recs, r)
	f.after, f.chain = r.Offset, r.Chain
	return nil
}

// trimmed reports whether the log was trimmed past f.after.
func (f *follower) trimmed() bool {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	return f.after.Less(f.l.base.offset)
}

// Close implements [eventlog.Follower].
func (f *follower) Close() error {
	f.closed, f.recs, f.bodies = true, nil, nil
	return nil
}

// checkNext reports how r can't be the record directly behind the one at
// after, whose chain hash is given. The record behind the zero Offset is the
// genesis.
func checkNext(after eventlog.Offset, chain eventlog.Chain, r *eventlog.Record) error {
	genesis := after.IsZero()
	if genesis != (r.Kind == eventlog.Genesis) || genesis && r.Offset != eventlog.GenesisOffset || !genesis && !r.Offset.Follows(after) {
		return fmt.Errorf("record %v (kind %d) stands behind %v: one between is gone", r.Offset, r.Kind, after)
	}
	if (r.Kind == eventlog.Fence) != (r.Offset.Seq == 0) {
		return fmt.Errorf("record %v is of kind %d", r.Offset, r.Kind)
	}
	if r.Prev != after {
		return fmt.Errorf("record %v was written behind %v, and stands behind %v", r.Offset, r.Prev, after)
	}
	if want := eventlog.NextChain(chain, r); r.Chain != want {
		return fmt.Errorf("record %v or the one before was altered: chain hash %x, want %x", r.Offset, r.Chain, want)
	}
	return nil
}

// readRecord reads one record; its body is its own. pebble.ErrNotFound if
// there is none.
func readRecord(db pebble.Reader, name eventlog.Name, o eventlog.Offset, r *eventlog.Record) error {
	v, closer, err := db.Get(appendRecordKey(nil, name, o))
	if err != nil {
		return err
	}
	err = decodeRecord(r, o, append([]byte(nil), v...))
	return errors.Join(err, closer.Close())
}
