package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A reader walks one log from where it begins to where it ended when the
// audit began, and checks of every record what the log's own rules say: its
// place, its kind, its writer and its chain hash.
type reader struct {
	// Static.
	v     *verifier
	store eventlog.Store
	log   eventlog.Name
	found *findings
	// known is a chain hash that somebody keeps outside of the log: the
	// ledger's, at its offset. Zero if there is none.
	known position

	// Owned by next.
	status   eventlog.Status // when the audit began, but for Base, which a trim moves on
	follower eventlog.Follower
	at       position // the record read last
	chained  bool     // at.chain is known
	nonce    eventlog.Nonce
	fenced   bool // nonce is known
	records  int64
	holes    int             // how often records were trimmed between two that were read
	fact     eventlog.Offset // the Data record read last: what else there is, a failover may take
	durable  eventlog.Offset // the highest durable mark heard of
	damaged  bool            // reading ended early, behind at
	matched  bool            // known was met, or is where the log begins
}

// position is a record's offset and chain hash.
type position struct {
	offset eventlog.Offset
	chain  eventlog.Chain
}

func newReader(v *verifier, log eventlog.Name, status eventlog.Status, known position) *reader {
	r := &reader{v: v, store: v.store, log: log, found: &v.found, known: known, status: status, durable: status.Durable}
	r.chained = true
	if !status.Base.IsZero() {
		r.begin(status.Base)
	}
	return r
}

// begin makes reading go on behind base: what was before is trimmed.
func (r *reader) begin(base eventlog.Offset) {
	r.status.Base = base
	r.at, r.chained, r.fenced = position{offset: base}, false, false
	if r.known.offset == base {
		r.at.chain, r.chained, r.matched = r.known.chain, true, true
	}
}

func (r *reader) close() {
	if r.follower != nil {
		_ = r.follower.Close()
		r.follower = nil
	}
}

// done reports whether there is nothing more to read.
func (r *reader) done() bool { return r.damaged || !r.at.offset.Less(r.status.Last) }

// next returns the next records, borrowed until the next call; none when done.
// Damage is a violation, and ends the reading; the error is ctx's, a rollback
// or one that says nothing about the data.
func (r *reader) next(ctx context.Context) ([]eventlog.Record, error) {
	for !r.done() {
		recs, err := r.fetch(ctx)
		if err != nil {
			return nil, err
		}
		n := 0
		for n < len(recs) && !r.status.Last.Less(recs[n].Offset) {
			r.check(&recs[n])
			n++
		}
		if n > 0 {
			r.records += int64(n)
			return recs[:n], nil
		}
	}
	r.close() // a follower of a log that is far away costs whoever serves it
	return nil, nil
}

// fetch gets records from the store, and notes what the store itself found. It
// returns none after that, and after a trim that moved on where to read.
func (r *reader) fetch(ctx context.Context) ([]eventlog.Record, error) {
	recs, err := r.ask(ctx)
	if err == nil || !saysOfData(err) {
		return recs, err
	}
	if errors.Is(err, eventlog.ErrTrimmed) {
		trimmed, err := r.trimmed(ctx)
		if trimmed || err != nil {
			return nil, err
		}
	}
	if errors.Is(err, eventlog.ErrDiverged) && !r.v.again(r.log, r.at.offset) {
		return nil, &rollback{r.log, r.at.offset, err}
	}
	r.damage(err)
	return nil, nil
}

// ask waits for records, but not for ever: those that are asked for are there.
func (r *reader) ask(ctx context.Context) (recs []eventlog.Record, err error) {
	within, cancel := context.WithTimeout(ctx, r.v.opts.AnswerWithin)
	defer cancel()
	if r.follower == nil {
		r.follower, err = r.store.Follow(within, r.log, r.at.offset)
	}
	if err == nil {
		var durable eventlog.Offset
		recs, durable, err = r.follower.Next(within)
		if r.durable.Less(durable) {
			r.durable = durable
		}
	}
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%s: no record behind %v came within %v: %w", r.log, r.at.offset, r.v.opts.AnswerWithin, err)
	}
	return recs, err
}

// saysOfData reports whether an error of a store says something of what it
// holds, and not that it can't be asked.
func saysOfData(err error) bool {
	for _, e := range [...]error{eventlog.ErrDamaged, eventlog.ErrDiverged, eventlog.ErrTrimmed, eventlog.ErrMissing} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// trimmed reports whether the log was trimmed past at since the audit began,
// and goes on behind that. Where it was not, a record is missing.
func (r *reader) trimmed(ctx context.Context) (bool, error) {
	st, err := r.store.Status(ctx, r.log)
	switch {
	case err != nil && !saysOfData(err):
		return false, err
	case err != nil || !r.at.offset.Less(st.Base):
		return false, nil
	}
	if r.records > 0 {
		r.holes++
		r.found.skip("%s: records behind %v and up to %v were trimmed while the log was read", r.log, r.at.offset, st.Base)
	}
	r.close()
	r.begin(st.Base)
	return true, nil
}

// again reports whether an earlier reading found the log rolled back there,
// which no failover does twice: then it is damaged.
func (v *verifier) again(log eventlog.Name, at eventlog.Offset) bool {
	return slices.ContainsFunc(v.rolled, func(r rollback) bool { return r.log == log && r.at == at })
}

// damage notes why the log can't be read on.
func (r *reader) damage(err error) {
	r.found.at(r.log, r.expected(), "%v", err)
	r.found.skip("%s: what stands behind %v, since it can't be read", r.log, r.at.offset)
	r.damaged = true
}

// expected returns the offset of the record behind at, if no fence is.
func (r *reader) expected() eventlog.Offset {
	return eventlog.Offset{Epoch: r.at.offset.Epoch, Seq: r.at.offset.Seq + 1}
}

// check notes how x can't stand behind at, and goes on from x as it is.
func (r *reader) check(x *eventlog.Record) {
	bad := func(format string, args ...any) { r.found.at(r.log, x.Offset, format, args...) }
	first := r.at.offset.IsZero()
	switch {
	case first && x.Offset != eventlog.GenesisOffset:
		bad("the log begins with %v, want its genesis at %v", x.Offset, eventlog.GenesisOffset)
	case !first && !x.Offset.Follows(r.at.offset):
		bad("stands directly behind %v: a record is missing or out of order", r.at.offset)
	}
	if x.Prev != r.at.offset {
		bad("says that it stands behind %v, and stands behind %v", x.Prev, r.at.offset)
	}
	if r.chained {
		if want := eventlog.NextChain(r.at.chain, x); x.Chain != want {
			bad("chain hash is %x, want %x: this record or the one before was altered", x.Chain, want)
		}
	}
	r.checkKind(x, bad)
	if !x.Mark.Less(x.Offset) || x.Offset.Less(x.From) {
		bad("its durable mark %v or from %v is not before it", x.Mark, x.From)
	}
	r.at, r.chained = position{x.Offset, x.Chain}, true
	if x.Kind == eventlog.Data {
		r.fact = x.Offset
	}
	if x.Offset == r.known.offset {
		r.matched = true
		if x.Chain != r.known.chain {
			bad("chain hash is %x, and %x was settled by the ledger", x.Chain, r.known.chain)
		}
	}
}

// checkKind notes a record of the wrong kind for its place, or of a writer
// that is not its epoch's.
func (r *reader) checkKind(x *eventlog.Record, bad func(format string, args ...any)) {
	switch {
	case x.Kind < eventlog.Genesis || x.Kind > eventlog.Mark:
		bad("is of unknown kind %d", x.Kind)
	case (x.Kind == eventlog.Genesis) != (x.Offset == eventlog.GenesisOffset):
		bad("is of kind %d: the genesis, and it alone, stands at %v", x.Kind, eventlog.GenesisOffset)
	case (x.Kind == eventlog.Fence) != (x.Offset.Seq == 0):
		bad("is of kind %d: a fence, and it alone, has seq 0", x.Kind)
	}
	switch x.Kind {
	case eventlog.Genesis:
		if string(x.Body) != string(r.status.Genesis[:]) {
			bad("genesis is of log %x, want %x", x.Body, r.status.Genesis)
		}
	case eventlog.Fence:
		r.nonce, r.fenced = x.Nonce, true
	default:
		if !r.fenced { // its fence was trimmed
			r.nonce, r.fenced = x.Nonce, true
		}
		if x.Nonce != r.nonce {
			bad("was written by %x, and epoch %d is of %x", x.Nonce, x.Offset.Epoch, r.nonce)
		}
	}
	if len(x.Body) > eventlog.BodyBytesMax {
		bad("has %d bytes, want at most %d", len(x.Body), eventlog.BodyBytesMax)
	}
	if (x.Kind == eventlog.Fence || x.Kind == eventlog.Mark) && len(x.Body) > 0 {
		bad("is of kind %d and has a body", x.Kind)
	}
}

// settled checks that the ledger's offset is one of the log's, once all is
// read. now is how far the ledger has settled the shard by now: with a log that
// is trimmed behind it, the offset of the audit's beginning can be gone.
func (r *reader) settled(now eventlog.Offset) {
	o := r.known.offset
	switch {
	case r.damaged && r.at.offset.Less(o):
		// Said already.
	case now.Less(r.status.Base):
		r.found.at(r.log, r.status.Base, "the log was trimmed up to here, and the ledger has settled only up to %v", now)
	case o.IsZero() || r.matched || o.Less(r.status.Base):
	case r.status.Last.Less(o):
		r.found.at(r.log, o, "is settled in the ledger, and the log ends at %v: records are lost", r.status.Last)
	default:
		r.found.at(r.log, o, "is settled in the ledger, and the log has no such record")
	}
}

// covers reports whether a record at o was read, if the log had it.
func (r *reader) covers(o eventlog.Offset) bool {
	if !r.status.Base.Less(o) {
		return false
	}
	return !r.damaged || !r.at.offset.Less(o)
}
