package filelog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/veltrix/cairn/internal/eventlog"
)

// tailRecords is how many of a log's newest records are checked when it is
// opened; the rest is checked as it is read.
const tailRecords = 256

// errCut: a log ends before what was acknowledged.
var errCut = errors.New("its end is missing")

// check reads what the database holds of each log, and checks that
//   - every log that has a mark is there, and reaches its mark;
//   - every log begins with its genesis, and the record behind its base
//     chains to it;
//   - its newest record is the one that its head names;
//   - the newest records chain, without a gap.
func check(db pebble.Reader, list []mark, ringBytesMax int) (map[eventlog.Name]*logState, error) {
	logs, err := readHeads(db, ringBytesMax)
	if err != nil {
		return nil, err
	}
	for _, k := range list {
		l := logs[k.name]
		if l == nil {
			return nil, fmt.Errorf("%w: log %q was provisioned and is not there: %w", eventlog.ErrDamaged, string(k.name), errCut)
		}
		if l.last.Offset.Less(k.offset) {
			return nil, fmt.Errorf("%w: log %s ends at %v, but %v was acknowledged: %w",
				eventlog.ErrDamaged, k.name, l.last.Offset, k.offset, errCut)
		}
	}
	for _, l := range logs {
		if err := checkLog(db, l); err != nil {
			return nil, fmt.Errorf("log %s: %w", l.name, err)
		}
	}
	return logs, nil
}

// readHeads returns the logs as their heads describe them.
func readHeads(db pebble.Reader, ringBytesMax int) (map[eventlog.Name]*logState, error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyHead}, UpperBound: []byte{keyHead + 1}})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	logs := make(map[eventlog.Name]*logState)
	for ok := it.First(); ok; ok = it.Next() {
		name := eventlog.Name(it.Key()[1:])
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		h, err := decodeHead(v)
		if err != nil {
			return nil, fmt.Errorf("%w: log %q: %w", eventlog.ErrDamaged, string(name), err)
		}
		l := newLogState(name, &h, ringBytesMax)
		l.slot = -1
		l.epoch, l.durable = h.offset.Epoch, h.offset
		l.last.Offset, l.last.Chain = h.offset, h.chain
		logs[name] = l
	}
	return logs, it.Error()
}

// checkLog checks one log's genesis, base and tail, and fills in what its head
// does not say.
func checkLog(db pebble.Reader, l *logState) error {
	genesis, err := checkGenesis(db, l)
	if err != nil {
		return err
	}
	if err := checkBase(db, l, genesis); err != nil {
		return err
	}
	tail, err := readTail(db, l.name)
	if err != nil {
		return err
	}
	if len(tail) == 0 || tail[len(tail)-1].Offset != l.last.Offset {
		var at eventlog.Offset
		if len(tail) > 0 {
			at = tail[len(tail)-1].Offset
		}
		return fmt.Errorf("%w: the newest record is %v: want %v", eventlog.ErrDamaged, at, l.last.Offset)
	}
	for i := range tail {
		// The oldest of the tail has its predecessor outside it, unless it is
		// the genesis or stands behind the base: both were checked.
		if i == 0 || i == 1 && tail[0].Kind == eventlog.Genesis && !l.base.offset.IsZero() {
			continue
		}
		if err := checkNext(tail[i-1].Offset, tail[i-1].Chain, &tail[i]); err != nil {
			return fmt.Errorf("%w: %w", eventlog.ErrDamaged, err)
		}
	}
	newest := &tail[len(tail)-1]
	if newest.Chain != l.last.Chain {
		return fmt.Errorf("%w: the newest record, %v, has the chain hash %x: want %x", eventlog.ErrDamaged, newest.Offset, newest.Chain, l.last.Chain)
	}
	for i := range tail {
		if !l.base.offset.IsZero() && tail[i].Kind == eventlog.Genesis {
			continue // records between it and the next are gone: a ring has no gap
		}
		l.ring.push(&tail[i])
	}
	l.last = *newest
	l.last.Body = nil
	return nil
}

// checkGenesis returns the genesis.
func checkGenesis(db pebble.Reader, l *logState) (*eventlog.Record, error) {
	var r eventlog.Record
	err := readRecord(db, l.name, eventlog.GenesisOffset, &r)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("%w: the genesis is gone", eventlog.ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	if err := checkNext(eventlog.Offset{}, eventlog.Chain{}, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", eventlog.ErrDamaged, err)
	}
	if !bytes.Equal(r.Body, l.genesis[:]) {
		return nil, fmt.Errorf("%w: the genesis is %x: want %x", eventlog.ErrDamaged, r.Body, l.genesis)
	}
	return &r, nil
}

// checkBase reads the log's base and checks that the oldest record held
// stands behind it.
func checkBase(db pebble.Reader, l *logState, genesis *eventlog.Record) error {
	v, closer, err := db.Get(appendKey(nil, keyBase, l.name))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return err
	default:
		l.base, err = decodeBase(v)
		if err := errors.Join(err, closer.Close()); err != nil {
			return fmt.Errorf("%w: %w", eventlog.ErrDamaged, err)
		}
	}
	if l.last.Offset == eventlog.GenesisOffset {
		return nil
	}
	after := base{genesis.Offset, genesis.Chain}
	if !l.base.offset.IsZero() {
		after = l.base
	}
	it, err := db.NewIter(&pebble.IterOptions{
		LowerBound: appendRecordKey(nil, l.name, eventlog.Offset{Epoch: genesis.Offset.Epoch, Seq: genesis.Offset.Seq + 1}),
		UpperBound: recordsTo(l.name),
	})
	if err != nil {
		return err
	}
	defer it.Close()
	if !it.First() {
		return fmt.Errorf("%w: no record behind the genesis: want up to %v: %w", eventlog.ErrDamaged, l.last.Offset, errors.Join(errCut, it.Error()))
	}
	r, err := recordAt(it)
	if err != nil {
		return err
	}
	if err := checkNext(after.offset, after.chain, &r); err != nil {
		return fmt.Errorf("%w: %w", eventlog.ErrDamaged, err)
	}
	l.first = r.Offset
	return nil
}

// readTail returns the newest records, in order, with bodies of their own.
func readTail(db pebble.Reader, name eventlog.Name) ([]eventlog.Record, error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: recordsFrom(name), UpperBound: recordsTo(name)})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var tail []eventlog.Record
	for ok := it.Last(); ok && len(tail) < tailRecords; ok = it.Prev() {
		r, err := recordAt(it)
		if err != nil {
			return nil, err
		}
		tail = append(tail, r)
	}
	slices.Reverse(tail)
	return tail, it.Error()
}

// recordAt decodes the record that it stands on; its body is its own.
func recordAt(it *pebble.Iterator) (eventlog.Record, error) {
	var r eventlog.Record
	o, err := recordKeyOffset(it.Key())
	if err != nil {
		return r, fmt.Errorf("%w: %w", eventlog.ErrDamaged, err)
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return r, err
	}
	if err := decodeRecord(&r, o, bytes.Clone(v)); err != nil {
		return r, fmt.Errorf("%w: record %v: %w", eventlog.ErrDamaged, o, err)
	}
	return r, nil
}
