package filelog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/veltrix/cairn/internal/eventlog"
)

// Provision implements [eventlog.Store].
func (s *Store) Provision(ctx context.Context, specs ...eventlog.Spec) error {
	for _, spec := range specs {
		if err := eventlog.ValidName(spec.Name); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return s.errorf("provision: %w", err)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.inside.Done()
	s.provides.Lock()
	defer s.provides.Unlock()

	var fresh []*logState
	var geneses []*eventlog.Record
	s.mu.Lock()
	seen := make(map[eventlog.Name]bool)
	for _, spec := range specs {
		if s.logs[spec.Name] == nil && !seen[spec.Name] {
			seen[spec.Name] = true
			l, r := s.newLog(spec)
			fresh, geneses = append(fresh, l), append(geneses, r)
		}
	}
	s.mu.Unlock()
	if len(fresh) == 0 {
		return nil
	}
	if s.opts.ReadOnly {
		return s.errorf("opened read-only: log %s can't be provisioned", fresh[0].name)
	}
	if err := s.create(fresh, geneses); err != nil {
		err = fmt.Errorf("provision: %w", err)
		s.fail(err)
		return s.errorf("%w: %w", eventlog.ErrUnknown, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range fresh {
		s.logs[l.name] = l
	}
	return nil
}

// newLog returns a log that is not stored yet, and its genesis.
func (s *Store) newLog(spec eventlog.Spec) (*logState, *eventlog.Record) {
	var id [24]byte
	rand.Read(id[:]) // never fails
	r := &eventlog.Record{
		Offset: eventlog.GenesisOffset,
		Kind:   eventlog.Genesis,
		Nonce:  eventlog.Nonce(id[16:]),
		Body:   id[:16],
	}
	r.Chain = eventlog.NextChain(eventlog.Chain{}, r)
	h := head{volatile: spec.Volatile, genesis: [16]byte(id[:16])}
	return newLogState(spec.Name, &h, s.opts.RingBytesMax), r
}

// create stores new logs: all or none, and then their marks.
func (s *Store) create(fresh []*logState, geneses []*eventlog.Record) error {
	b := s.db.NewBatch()
	var list []mark
	for i, l := range fresh {
		if err := putRecord(b, l, geneses[i]); err != nil {
			return err
		}
		list = append(list, mark{l.name, eventlog.GenesisOffset})
	}
	if err := s.apply(b, synced); err != nil {
		return err
	}
	slot, err := s.marks.add(list...)
	if err != nil {
		return err
	}
	for i, l := range fresh {
		l.slot = slot + i
		l.publish(geneses[i], true)
		l.first = eventlog.Offset{} // the genesis is not counted
	}
	return nil
}

// apply commits b. It returns where the database would hang for ever after a
// failure.
func (s *Store) apply(b *pebble.Batch, how *pebble.WriteOptions) error {
	outcome := make(chan error, 1)
	go func() {
		err := s.db.Apply(b, how)
		if err == nil {
			err = b.Close()
		}
		outcome <- err
	}()
	select {
	case err := <-outcome:
		return err
	case <-s.failed:
		return s.failureErr()
	}
}

// Trim implements [eventlog.Store].
func (s *Store) Trim(ctx context.Context, log eventlog.Name, before eventlog.Offset) error {
	l, err := s.log(log)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return s.errorf("log %s: trim: %w", log, err)
	}
	if s.opts.ReadOnly {
		return s.errorf("log %s: opened read-only: no trim", log)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.inside.Done()
	l.trims.Lock()
	defer l.trims.Unlock()
	if err := s.trim(l, before); err != nil {
		return s.errorf("log %s: trim: %w", log, err)
	}
	return nil
}

// trim drops the records of l before the given offset. What is dropped last
// stays as the log's base, so that the chain can be checked from there.
func (s *Store) trim(l *logState, before eventlog.Offset) error {
	l.mu.Lock()
	if l.last.Offset.Less(before) {
		before = l.last.Offset
	}
	lower := eventlog.GenesisOffset
	if lower.Less(l.base.offset) {
		lower = l.base.offset
	}
	l.mu.Unlock()
	lower.Seq++ // behind the genesis, or what is gone already
	gone, first, err := s.border(l.name, lower, before)
	if err != nil {
		return s.damage(err)
	}
	if gone.offset.IsZero() {
		return nil
	}
	b := s.db.NewBatch()
	if err := b.DeleteRange(appendRecordKey(nil, l.name, lower), appendRecordKey(nil, l.name, before), nil); err != nil {
		return err
	}
	if err := b.Set(appendKey(nil, keyBase, l.name), gone.appendTo(nil), nil); err != nil {
		return err
	}
	// Known in memory first, so that a follower that finds a hole knows why.
	l.mu.Lock()
	l.base, l.first = gone, first
	l.mu.Unlock()
	// Not synced: a trim that a power cut undoes is no loss.
	if err := s.apply(b, unsynced); err != nil {
		s.fail(fmt.Errorf("log %s: trim: %w", l.name, err))
		return err
	}
	return nil
}

// border returns the last record in [lower, before), as the base it will be,
// and the offset of the one behind it. The zero base if there is none.
func (s *Store) border(log eventlog.Name, lower, before eventlog.Offset) (gone base, first eventlog.Offset, err error) {
	if !lower.Less(before) {
		return base{}, eventlog.Offset{}, nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: appendRecordKey(nil, log, lower), UpperBound: recordsTo(log)})
	if err != nil {
		return base{}, eventlog.Offset{}, err
	}
	defer it.Close()
	if !it.SeekLT(appendRecordKey(nil, log, before)) {
		return base{}, eventlog.Offset{}, it.Error()
	}
	r, err := recordAt(it)
	if err != nil {
		return base{}, eventlog.Offset{}, err
	}
	if !it.Next() {
		return base{}, eventlog.Offset{}, fmt.Errorf("no record behind %v: %w", r.Offset, errors.Join(errCut, it.Error()))
	}
	first, err = recordKeyOffset(it.Key())
	return base{r.Offset, r.Chain}, first, err
}
