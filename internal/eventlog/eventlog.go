// Package eventlog is the contract of a fenced, append-only log: one writer at
// a time, and a new writer shuts out every earlier one by the rule of the log
// itself. Backends keep it beneath this package (filelog, redislog) and prove
// it with the same suite (logtest).
//
// A log is a chain of records. Its first is the genesis, written once by
// [Store.Provision]; a writer opens with a fence, which begins a new epoch; all
// that follows until the next fence is that writer's.
//
//	0-1 genesis ─ 1-0 fence ─ 1-1 ─ 1-2 ─ 2-0 fence ─ 2-1 ─ …
//
// What a record's body means is not known here.
package eventlog

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// BodyBytesMax bounds a record's body, so that one append is one small,
// atomic command on every backend.
const BodyBytesMax = 64 << 10

// A Name names a log: 1 to 32 characters of a–z, 0–9, '-' and '_'.
type Name string

// The names of the logs that the system has.
const (
	Maps      Name = "maps"
	Standings Name = "standings"
	Control   Name = "control"
)

// Shard returns the name of a shard's log, such as "s07".
func Shard(i int) Name { return Name(fmt.Sprintf("s%02d", i)) }

// ValidName reports what is wrong with n.
func ValidName(n Name) error {
	bad := strings.ContainsFunc(string(n), func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
	if bad || len(n) == 0 || len(n) > 32 {
		return fmt.Errorf("eventlog: log name %.40q: want 1 to 32 characters of a-z, 0-9, - and _", string(n))
	}
	return nil
}

// An Offset is a record's id. Offsets of a log only grow: within an epoch by
// exactly one, and over a fence to the next epoch's 0. The zero Offset stands
// before every record.
type Offset struct {
	Epoch uint64 // the writer's generation: how often the log had been fenced
	Seq   uint64
}

// GenesisOffset is the offset of every log's first record.
var GenesisOffset = Offset{0, 1}

// Compare returns -1, 0 or 1.
func (o Offset) Compare(p Offset) int {
	return cmp.Or(cmp.Compare(o.Epoch, p.Epoch), cmp.Compare(o.Seq, p.Seq))
}

// Less reports whether o stands before p.
func (o Offset) Less(p Offset) bool { return o.Compare(p) < 0 }

// IsZero reports whether o is the zero Offset.
func (o Offset) IsZero() bool { return o == Offset{} }

// Before returns where to follow from to read the record at o, and all behind
// it: directly before o, or o itself where o is a fence, which carries nothing.
func (o Offset) Before() Offset {
	switch {
	case o.Seq == 0:
		return o
	case o == GenesisOffset:
		return Offset{}
	}
	return Offset{o.Epoch, o.Seq - 1}
}

// String returns "epoch-seq", as Redis Streams write an id.
func (o Offset) String() string {
	var a [41]byte // two numbers of 20 digits
	b := append(strconv.AppendUint(a[:0], o.Epoch, 10), '-')
	return string(strconv.AppendUint(b, o.Seq, 10))
}

// ParseOffset parses what String returns.
func ParseOffset(s string) (Offset, error) {
	epoch, seq, _ := strings.Cut(s, "-")
	var o Offset
	var err1, err2 error
	o.Epoch, err1 = strconv.ParseUint(epoch, 10, 64)
	o.Seq, err2 = strconv.ParseUint(seq, 10, 64)
	if err1 != nil || err2 != nil || o.String() != s {
		return Offset{}, fmt.Errorf("eventlog: offset %.40q: want epoch-seq, such as 3-15", s)
	}
	return o, nil
}

// MarshalText implements encoding.TextMarshaler.
func (o Offset) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Offset) UnmarshalText(b []byte) (err error) {
	*o, err = ParseOffset(string(b))
	return err
}

// Follows reports whether a record at o may stand directly behind one at prev.
func (o Offset) Follows(prev Offset) bool {
	return prev.Less(o) && // sums must not wrap
		(o.Epoch == prev.Epoch && o.Seq == prev.Seq+1 || o.Epoch == prev.Epoch+1 && o.Seq == 0)
}

// A Kind says what a record is. The numbers are stored: never reuse one.
type Kind uint8

// The kinds.
const (
	Genesis Kind = 1 // the first record; its body is the log's unique id (16 bytes)
	Fence   Kind = 2 // the first record of an epoch; its body is empty
	Data    Kind = 3 // a record that a writer appended
	Mark    Kind = 4 // carries a durable mark and nothing else
)

// A Nonce tells writers apart that believe themselves in the same epoch.
type Nonce [8]byte

// A Chain is a record's chain hash: SHA-256, cut to 16 bytes, over the chain
// hash of the record before and all of this record ([NextChain]).
type Chain [16]byte

// A Record is one entry of a log.
type Record struct {
	Offset Offset
	Kind   Kind
	Nonce  Nonce  // the writer's
	Prev   Offset // of the record before; zero for the genesis
	Chain  Chain
	Mark   Offset // the log was known durable up to here when this was written
	From   Offset // the application's: a takeover reads from here (see Writer.Append)
	Body   []byte // at most BodyBytesMax; borrowed, valid until the follower's next call
}

// NextChain returns the chain hash of r, given that of the record before it.
// It covers every field of r but Chain.
func NextChain(prev Chain, r *Record) Chain {
	var head [16 + 1 + 8 + 4*16]byte
	b := append(head[:0], prev[:]...)
	b = append(append(b, byte(r.Kind)), r.Nonce[:]...)
	for _, o := range [...]Offset{r.Offset, r.Prev, r.Mark, r.From} {
		b = binary.BigEndian.AppendUint64(b, o.Epoch)
		b = binary.BigEndian.AppendUint64(b, o.Seq)
	}
	h := sha256.New()
	h.Write(b)
	h.Write(r.Body)
	var sum [sha256.Size]byte
	return Chain(h.Sum(sum[:0])[:16])
}

// Errors. Each says what the caller is to do next; backends wrap them with
// the log's name and what they saw.
var (
	// ErrFenced: a newer writer owns the log. Final for this writer: stop,
	// reopen if you still should own it, and rebuild from the log.
	ErrFenced = errors.New("eventlog: fenced by a newer writer")

	// ErrUnknown: it can't be said whether the record is in the log. Final
	// for this writer: answer pending, reopen, and let the log decide.
	ErrUnknown = errors.New("eventlog: outcome unknown")

	// ErrPushback: nothing was written and the writer is as it was. Try
	// again later.
	ErrPushback = errors.New("eventlog: log can't take a record now")

	// ErrTooLarge: nothing was written: the body is over BodyBytesMax.
	ErrTooLarge = errors.New("eventlog: record too large")

	// ErrMissing: the log was never provisioned, or is gone, or has another
	// genesis than it had. An operator must look.
	ErrMissing = errors.New("eventlog: no such log")

	// ErrTrimmed: the offset to follow from is before what the log still
	// holds. Start anew from a snapshot that is younger.
	ErrTrimmed = errors.New("eventlog: trimmed past this offset")

	// ErrDiverged: the log does not hold the record that the follower read
	// last: it was rolled back or is another log. Resync by snapshot.
	ErrDiverged = errors.New("eventlog: log diverged from what was read")

	// ErrDamaged: a stored record can't be what was written, or one that was
	// acknowledged is gone. Wraps where. An operator must look.
	ErrDamaged = errors.New("eventlog: log is damaged")

	// ErrInUse: another process has the store open.
	ErrInUse = errors.New("eventlog: store is in use by another process")

	// ErrClosed: the store, writer or follower was closed.
	ErrClosed = errors.New("eventlog: closed")
)

// A Status is what a store knows of a log without reading it through.
type Status struct {
	Genesis  [16]byte // the log's unique id
	First    Offset   // of the oldest record still held, the genesis aside; zero if there is none
	Base     Offset   // follow from here to read all that is still held; zero, so the genesis too, if nothing was trimmed
	Last     Offset   // of the newest record: the head
	Durable  Offset   // ≤ Last: all up to here survives what the backend promises to survive
	Chain    Chain    // of the newest record
	From     Offset   // of the newest record: the oldest that whoever takes over needs; zero for all
	Volatile bool     // provisioned so: see Spec
}

// A Spec is a log to provision.
type Spec struct {
	Name     Name
	Volatile bool // appends are not made durable before they are acknowledged: for what can be computed anew
}

// A Store holds many logs. Its methods may be called concurrently.
type Store interface {
	// Provision creates each log that does not exist, with its genesis, and
	// leaves the others alone. Nothing else ever creates a log.
	Provision(ctx context.Context, specs ...Spec) error

	// Logs returns the names of all logs, sorted.
	Logs(ctx context.Context) ([]Name, error)

	// Status returns the state of a log, or ErrMissing.
	Status(ctx context.Context, log Name) (Status, error)

	// Open appends a fence, which begins the next epoch and shuts out every
	// earlier writer of the log, and returns the new writer. When it returns,
	// all that earlier writers had acknowledged can be followed, and nothing
	// of theirs will land any more.
	Open(ctx context.Context, log Name) (Writer, error)

	// Follow returns a follower whose first record is the one directly behind
	// after. The zero Offset is before the genesis. ErrTrimmed if records
	// behind after are gone; ErrDiverged if after is not an offset of this log.
	// Status.Base is where to follow from to read all that there is.
	Follow(ctx context.Context, log Name, after Offset) (Follower, error)

	// Trim drops records before the given offset, never the newest one, and
	// never the genesis. The caller has made sure that nobody needs them.
	Trim(ctx context.Context, log Name, before Offset) error

	// Close stops followers and writers with ErrClosed and waits for them.
	Close() error
}

// A Writer appends to one log until it is fenced. One goroutine at a time.
type Writer interface {
	// Fence returns the offset of this writer's fence: seq 0 of its epoch.
	Fence() Offset

	// From returns the from of the last record before the fence: whoever takes
	// over reads from that record, so follows from its Before, up to Fence.
	// Zero means from the start.
	From() Offset

	// Append makes body one record and returns its offset once it is
	// acknowledged: durable, unless the log is volatile. from is stored with
	// the record: the oldest record that whoever takes over needs to read.
	// Body is not kept. Errors: ErrFenced and ErrUnknown end the writer;
	// ErrTooLarge and ErrPushback reject this record only. If ctx ends while
	// the outcome is open, that is ErrUnknown; before, ErrPushback and ctx's.
	Append(ctx context.Context, body []byte, from Offset) (Offset, error)

	// Close releases the writer. It does not fence.
	Close() error
}

// A Follower reads one log in order. One goroutine at a time.
type Follower interface {
	// Next waits until there is a record behind the last one it returned, and
	// returns those that there are, at least one, in order and without a gap,
	// with the log's durable mark (which may lie before or behind them).
	// Genesis, Fence and Mark records are returned like any other. The mark
	// alone can move too: then recs is empty.
	// The result is borrowed: it is valid until the next call.
	// Errors: ctx's, ErrTrimmed, ErrDiverged, ErrDamaged, ErrClosed.
	Next(ctx context.Context) (recs []Record, durable Offset, err error)

	// Close releases the follower.
	Close() error
}
