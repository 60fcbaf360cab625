package audit

import (
	"context"
	"errors"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A reader walks one log from where it begins to where it ended when the
// audit began, and checks of every record what the log's own rules say: its
// place, its kind, its writer and its chain hash.
type reader struct {
	// Static.
	store  eventlog.Store
	log    eventlog.Name
	status eventlog.Status
	found  *findings
	// known is a chain hash that somebody keeps outside of the log: the
	// ledger's, at its offset. Zero if there is none.
	known position

	// Owned by next.
	follower eventlog.Follower
	at       position // the record read last
	chained  bool     // at.chain is known
	nonce    eventlog.Nonce
	fenced   bool // nonce is known
	records  int64
	damaged  bool // reading ended early, behind at
	matched  bool // known was met, or is where the log begins
}

// position is a record's offset and chain hash.
type position struct {
	offset eventlog.Offset
	chain  eventlog.Chain
}

func newReader(store eventlog.Store, log eventlog.Name, status eventlog.Status, known position, found *findings) *reader {
	r := &reader{store: store, log: log, status: status, known: known, found: found}
	r.at.offset = status.Base
	r.chained = status.Base.IsZero()
	if !status.Base.IsZero() {
		found.skip("%s: records up to %v were trimmed", log, status.Base)
		if known.offset == status.Base {
			r.at.chain, r.chained, r.matched = known.chain, true, true
		}
	}
	return r
}

func (r *reader) close() {
	if r.follower != nil {
		_ = r.follower.Close()
	}
}

// done reports whether there is nothing more to read.
func (r *reader) done() bool { return r.damaged || !r.at.offset.Less(r.status.Last) }

// next returns the next records, borrowed until the next call; none when done.
// Damage is a violation, and ends the reading; the error is ctx's or one that
// says nothing about the data.
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
	return nil, nil
}

// fetch gets records from the store, and notes what the store itself found.
func (r *reader) fetch(ctx context.Context) (recs []eventlog.Record, err error) {
	if r.follower == nil {
		r.follower, err = r.store.Follow(ctx, r.log, r.at.offset)
	}
	if err == nil {
		recs, _, err = r.follower.Next(ctx)
	}
	if err == nil {
		return recs, nil
	}
	for _, e := range [...]error{eventlog.ErrDamaged, eventlog.ErrDiverged, eventlog.ErrTrimmed, eventlog.ErrMissing} {
		if errors.Is(err, e) {
			r.found.at(r.log, r.expected(), "%v", err)
			r.found.skip("%s: what stands behind %v, since it can't be read", r.log, r.at.offset)
			r.damaged = true
			return nil, nil
		}
	}
	return nil, err
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

// settled checks that the ledger's offset is one of the log's, once all is read.
func (r *reader) settled() {
	o := r.known.offset
	switch {
	case o.IsZero() || r.matched:
	case r.status.Last.Less(o):
		r.found.at(r.log, o, "is settled in the ledger, and the log ends at %v: records are lost", r.status.Last)
	case o.Less(r.status.Base):
		r.found.at(r.log, r.status.Base, "the log was trimmed up to here, and the ledger has settled only up to %v", o)
	case r.damaged && r.at.offset.Less(o):
		// Said already.
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
