package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// A record is what the ledger needs of a log's record.
type record struct {
	offset eventlog.Offset
	chain  eventlog.Chain
	claims []cairn.Claim // in a Data record
}

// A delivery is records of one shard that are durable, in the log's order and
// directly behind the ones of the delivery before it in the same run.
type delivery struct {
	shard   int
	run     uint64 // of the follower: what an earlier one still had under way is dropped
	records []record
}

// position is a place in a log and the chain hash there.
type position struct {
	offset eventlog.Offset
	chain  eventlog.Chain
}

// A haltError says why a shard can't be settled any further, and what mends it.
type haltError struct{ err error }

func (e *haltError) Error() string {
	for _, a := range advice {
		if errors.Is(e.err, a.of) {
			return e.err.Error() + ": " + a.mend
		}
	}
	return e.err.Error()
}

// advice is what an operator can do about a log and a ledger that do not fit
// each other. docs/backup.md has the steps.
var advice = [...]struct {
	of   error
	mend string
}{
	{eventlog.ErrDiverged, "nothing of it is paid; unless a failover was just now, the log is older than the ledger, or another one: " +
		"restore a ledger that was saved before this log was (docs/backup.md)"},
	{eventlog.ErrTrimmed, "the ledger is older than what the log still holds: restore a newer ledger (docs/backup.md)"},
	{eventlog.ErrMissing, "the log was lost: restore it, and a ledger that was saved before it (docs/backup.md)"},
}

func (e *haltError) Unwrap() error { return e.err }

func halt(format string, args ...any) error { return &haltError{fmt.Errorf(format, args...)} }

// follow reads the log of one shard behind sent, and sends what is durable to
// out, until ctx ends or an error; sent keeps up with it. An error that only an
// operator can mend is a haltError; after others, follow again.
func follow(ctx context.Context, store eventlog.Store, shard int, run uint64, sent *position, p *progress, out chan<- delivery) error {
	at := *sent
	f, err := store.Follow(ctx, eventlog.Shard(shard), at.offset)
	if err != nil {
		return final(err)
	}
	defer f.Close()
	atHead, err := checkHead(ctx, store, shard, at)
	if err != nil {
		return err
	}
	if atHead {
		p.fits()
	}
	var held []record // read, and not known to be durable
	defer func() { p.addUnsettled(-owed(held)) }()
	for {
		recs, durable, err := f.Next(ctx)
		if err != nil {
			return final(err)
		}
		var broken error // send first what is good
		for i := range recs {
			if broken = check(at, &recs[i]); broken != nil {
				break
			}
			r, err := decode(&recs[i])
			if err != nil {
				broken = err
				break
			}
			at = position{r.offset, r.chain}
			held = append(held, r)
			p.addUnsettled(owed(held[len(held)-1:]))
		}
		p.setRead(at.offset)
		n := 0
		for n < len(held) && !durable.Less(held[n].offset) {
			n++
		}
		if n > 0 {
			select {
			case out <- delivery{shard, run, held[:n:n]}:
				*sent = position{held[n-1].offset, held[n-1].chain}
			case <-ctx.Done():
				return ctx.Err()
			}
			held = append([]record(nil), held[n:]...)
		}
		if broken != nil {
			return broken
		}
		p.fits()
	}
}

// owed returns how many of some records have something to settle: the mark
// that an idle log ends with has not, and is never durable.
func owed(records []record) (n int) {
	for i := range records {
		if len(records[i].claims) > 0 {
			n++
		}
	}
	return n
}

// final makes the errors that no second try mends halt the shard.
func final(err error) error {
	for _, e := range [...]error{eventlog.ErrTrimmed, eventlog.ErrDiverged, eventlog.ErrDamaged, eventlog.ErrMissing} {
		if errors.Is(err, e) {
			return &haltError{err}
		}
	}
	return err
}

// checkHead compares the log's newest record with at, if that is where the
// ledger stands: no record behind it would show that the log is another one.
// It reports whether it is.
func checkHead(ctx context.Context, store eventlog.Store, shard int, at position) (atHead bool, err error) {
	st, err := store.Status(ctx, eventlog.Shard(shard))
	if err != nil {
		return false, final(err)
	}
	if st.Last.Less(at.offset) {
		return false, halt("%w: settled up to %v, and the log ends at %v", eventlog.ErrDiverged, at.offset, st.Last)
	}
	if st.Last == at.offset && st.Chain != at.chain {
		return false, halt("%w: record %v has chain hash %x, and %x was settled", eventlog.ErrDiverged, at.offset, st.Chain, at.chain)
	}
	return st.Last == at.offset, nil
}

// check reports why r can't stand directly behind at.
func check(at position, r *eventlog.Record) error {
	follows := r.Offset.Follows(at.offset)
	if at.offset.IsZero() {
		follows = r.Offset == eventlog.GenesisOffset
	}
	switch {
	case !follows:
		return halt("%w: record %v is directly behind %v", eventlog.ErrDiverged, r.Offset, at.offset)
	case r.Prev != at.offset:
		return halt("%w: record %v says it stands behind %v, want %v", eventlog.ErrDiverged, r.Offset, r.Prev, at.offset)
	case eventlog.NextChain(at.chain, r) != r.Chain:
		return halt("%w: record %v has chain hash %x, want %x", eventlog.ErrDiverged, r.Offset, r.Chain, eventlog.NextChain(at.chain, r))
	case r.Offset.Epoch > math.MaxInt64 || r.Offset.Seq > math.MaxInt64:
		return halt("record %v: offset is too large for SQL", r.Offset)
	}
	return nil
}

// decode copies out of r what the ledger needs, and refuses what can't be paid.
func decode(r *eventlog.Record) (record, error) {
	rec := record{offset: r.Offset, chain: r.Chain}
	if r.Kind != eventlog.Data {
		return rec, nil
	}
	var err error
	if rec.claims, err = wire.DecodeClaims(nil, r.Body); err != nil {
		return rec, halt("record %v: %w", r.Offset, err)
	}
	for i := range rec.claims {
		if err := payable(&rec.claims[i]); err != nil {
			return rec, halt("record %v: claim %d: %w", r.Offset, i, err)
		}
	}
	return rec, nil
}

// payable reports what no claim service writes and no ledger should keep.
func payable(c *cairn.Claim) error {
	if err := cairn.ValidHuntID(c.Hunt); err != nil {
		return fmt.Errorf("%w: hunt %w", wire.ErrMalformed, err)
	}
	if c.Reward < 0 || c.Reward > cairn.RewardMax {
		return fmt.Errorf("%w: reward is %d, want 0 to %d", wire.ErrMalformed, c.Reward, cairn.RewardMax)
	}
	for _, s := range [...]string{string(c.Player), c.Name} {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return fmt.Errorf("%w: player %.70q is not text", wire.ErrMalformed, s)
		}
	}
	if c.Player == "" {
		return fmt.Errorf("%w: no player", wire.ErrMalformed)
	}
	return nil
}

// sleep waits for d or for ctx, and reports whether ctx still runs.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
