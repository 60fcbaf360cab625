package audit

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/ledger"
)

// frame bounds what is verified, so that on a system that goes on everything
// that is referred to lies within the bounds: each log's end is taken after
// that of those that refer to it.
//
//	ledger ─▶ shards ─▶ maps ─▶ control
//	standings ─▶ shards
//
// What the ledger has settled, the shards then hold; the claims of a board
// that was published stand in the shards; their maps, in the maps log; the
// maps' hunts, in the control log. The boards are read at once, for they are
// kept for a minute only.
func (v *verifier) frame(ctx context.Context, led *ledger.Ledger) error {
	if led != nil {
		if err := v.open(ctx, led); err != nil {
			return err
		}
	}
	names, err := v.names(ctx)
	if err != nil {
		return err
	}
	if err := v.bound(ctx, eventlog.Standings, names[eventlog.Standings]); err != nil {
		return err
	}
	if err := v.foldStandings(ctx, v.readers[eventlog.Standings]); err != nil {
		return err
	}
	for _, name := range order(names) {
		if err := v.bound(ctx, name, names[name]); err != nil {
			return err
		}
	}
	slices.SortFunc(v.shards, func(a, b *shardState) int { return a.id - b.id })
	v.report.Logs = len(v.readers)
	return nil
}

// names returns the names that a log may have, and whether the store lists it.
// Logs that must be there are asked for by name: while a Cluster moves a slot,
// a list of its keys can miss some.
func (v *verifier) names(ctx context.Context) (map[eventlog.Name]bool, error) {
	listed, err := v.store.Logs(ctx)
	if err != nil {
		return nil, err
	}
	names := map[eventlog.Name]bool{eventlog.Control: false, eventlog.Maps: false, eventlog.Standings: false}
	highest := -1
	for _, name := range listed {
		names[name] = true
		if id, ok := shardID(name); ok {
			highest = max(highest, id)
		}
	}
	for id := range v.settled {
		highest = max(highest, id)
	}
	for id := range highest + 1 {
		names[eventlog.Shard(id)] = names[eventlog.Shard(id)] // false unless listed
	}
	return names, nil
}

// order returns names as frame bounds them, without the standings.
func order(names map[eventlog.Name]bool) []eventlog.Name {
	referred := []eventlog.Name{eventlog.Maps, eventlog.Control}
	sorted := slices.DeleteFunc(slices.Sorted(maps.Keys(names)), func(n eventlog.Name) bool {
		return n == eventlog.Standings || slices.Contains(referred, n)
	})
	return append(sorted, referred...)
}

// bound makes the reader of a log, which ends where the log ends now. There is
// none for a log that is neither there nor listed.
func (v *verifier) bound(ctx context.Context, name eventlog.Name, listed bool) error {
	id, isShard := shardID(name)
	sums := v.settled[id]
	if !isShard {
		sums = ledger.ShardSums{}
	}
	st, err := v.status(ctx, name, sums.Offset)
	if errors.Is(err, eventlog.ErrMissing) && !listed {
		return nil
	}
	if err != nil && !saysOfData(err) {
		return err
	}
	r := newReader(v, name, st, position{sums.Offset, sums.Chain})
	if err != nil {
		r.damage(err)
	}
	v.readers[name] = r
	if isShard {
		v.shards = append(v.shards, &shardState{v: v, id: id, reader: r, sums: sums})
	}
	return nil
}

// status returns a log's status. Logs that end before what is settled of them
// are given Options.Patience, all together: a failover is one for all, and where
// every log is older than the ledger nobody waits for each.
func (v *verifier) status(ctx context.Context, name eventlog.Name, settled eventlog.Offset) (st eventlog.Status, err error) {
	for {
		st, err = v.store.Status(ctx, name)
		if err != nil || !st.Last.Less(settled) {
			return st, err
		}
		if v.whole.IsZero() {
			v.whole = time.Now().Add(v.opts.Patience)
		}
		left := time.Until(v.whole)
		if left <= 0 {
			return st, nil
		}
		select {
		case <-time.After(min(left, 50*time.Millisecond)):
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
}

// absent notes the shards that have no log, and should: those that the ledger
// has settled, and those that maps have tiles in.
func (v *verifier) absent() {
	have, maxShards := map[int]bool{}, 0
	for _, s := range v.shards {
		have[s.id] = true
	}
	for _, m := range v.maps {
		maxShards = max(maxShards, m.shards)
	}
	for _, id := range slices.Sorted(maps.Keys(v.settled)) {
		if !have[id] {
			v.found.at(eventlog.Shard(id), v.settled[id].Offset, "is settled in the ledger, and there is no such log")
			have[id] = true
		}
	}
	for id := range maxShards {
		if !have[id] {
			v.found.of(string(eventlog.Shard(id)), "there is no such log, and there are maps of %d shards", maxShards)
		}
	}
}

// settledNow returns how far the ledger has settled each shard: as its view
// says, unless a log has been trimmed past that since.
func (v *verifier) settledNow(ctx context.Context) (map[int]eventlog.Offset, error) {
	now, stale := map[int]eventlog.Offset{}, false
	for _, s := range v.shards {
		now[s.id] = s.sums.Offset
		stale = stale || s.sums.Offset.Less(s.status.Base)
	}
	if v.view == nil || v.ledErr != nil || !stale {
		return now, nil
	}
	now, err := v.led.Settled(ctx)
	if isData(ctx, err) {
		v.broken(err)
		return now, nil
	}
	return now, err
}

// reaches reports how far each log was verified, and what was trimmed.
func (v *verifier) reaches(ctx context.Context) error {
	v.report.Verified = []Reach{}
	for _, name := range slices.SortedFunc(maps.Keys(v.readers), byRank) {
		r := v.readers[name]
		if base := r.status.Base; !base.IsZero() && r.holes == 0 {
			v.found.skip("%s: records up to %v were trimmed", name, base)
		}
		to, err := r.reach(ctx)
		if err != nil {
			return err
		}
		reach := Reach{Log: string(name), After: r.status.Base, To: to, Read: r.at.offset, Settled: r.known.offset}
		if to.Less(r.fact) {
			v.found.skip("%s: records behind %v, which are not known to be durable: read up to %v, and a failover may take them", name, to, r.at.offset)
		}
		v.report.Verified = append(v.report.Verified, reach)
	}
	return nil
}

// reach returns the offset up to which what was read is durable.
func (r *reader) reach(ctx context.Context) (eventlog.Offset, error) {
	if r.status.Volatile || r.damaged {
		return r.at.offset, nil
	}
	if r.durable.Less(r.fact) { // as it was when that was read
		st, err := r.store.Status(ctx, r.log)
		if err != nil && !saysOfData(err) {
			return r.at.offset, err
		}
		if err == nil && r.durable.Less(st.Durable) {
			r.durable = st.Durable
		}
	}
	if r.durable.Less(r.fact) {
		return r.durable, nil
	}
	return r.at.offset, nil
}
