// Package ledger is the durable account of rewards: one entry a claim, exactly
// once. It follows the shards' logs up to their durable marks and writes
// entries, sums and offsets in one transaction, so that a crash anywhere
// settles nothing twice and loses nothing.
//
//	entries   unique on (hunt, map, tile): the first claim in the log's order
//	offsets   how far each shard is settled: count, Σ and chain hash there
//	balances  Σ a player
//
// It lies in an SQLite file or in a PostgreSQL database (docs/ledger.md); what
// differs between them is a dialect, and all else is one code and one suite of
// tests. It does not know sockets, ranks or which backend the log has.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn/internal/eventlog"
)

// Errors.
var (
	// ErrBadCursor: the cursor is none that Rewards returned. Start without one.
	ErrBadCursor = errors.New("ledger: bad cursor")

	// ErrReadOnly: the ledger was opened with ReadOnly, and Run writes.
	ErrReadOnly = errors.New("ledger: opened read-only")
)

// Shards say which shards a Ledger is to settle, where several share the work
// (a fleet.Partition). They may change at any time, and two Ledgers may be told
// the same for a while: the offsets in the database are what keeps them from
// paying twice.
type Shards interface {
	// Owns reports whether a shard is to be settled here.
	Owns(shard int) bool

	// Changed returns a channel that is closed when Owns has another answer
	// for some shard than when Changed was called.
	Changed() <-chan struct{}
}

// Options tunes a Ledger. The zero value is ready for production.
type Options struct {
	ReadOnly    bool          // only read, and change nothing on disk; the database must exist
	CommitEvery time.Duration // longest that a claim waits for its transaction to fill; 0 means 50ms
	RowsMax     int           // entries in one transaction; 0 means 4096
	Shards      Shards        // which shards Run settles; nil means all
	RetryMax    time.Duration // longest wait before what failed, or a halted shard, is tried again; 0 means 5s

	// AnswerWithin bounds how long PostgreSQL may take for a connection, for a
	// transaction or for a read other than a View's; 0 means 30s. A
	// transaction that took longer is tried again on another connection.
	AnswerWithin time.Duration

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil leaves them unregistered
	Now     func() time.Time      // nil means time.Now; for durations in metrics only
}

func (o Options) withDefaults() Options {
	if o.CommitEvery == 0 {
		o.CommitEvery = 50 * time.Millisecond
	}
	if o.RowsMax == 0 {
		o.RowsMax = 4096
	}
	if o.RetryMax == 0 {
		o.RetryMax = 5 * time.Second
	}
	if o.AnswerWithin == 0 {
		o.AnswerWithin = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// A Ledger is an open account. Its methods may be called concurrently; Run,
// at most once at a time.
type Ledger struct {
	opts    Options
	dialect *dialect
	name    string  // of the database, safe to print
	write   *sql.DB // nil if read-only; one connection
	read    *sql.DB
	metrics metrics

	mu      sync.Mutex
	store   eventlog.Store // while Run runs
	shards  map[int]*progress
	failing error // why the last transaction failed; nil once one committed
}

// Open opens the ledger that dsn names and brings its schema up to date:
//
//	sqlite:PATH                    an SQLite file, made if it does not exist; its folder must
//	postgres://USER@HOST/DATABASE  a PostgreSQL database, which must exist; libpq's
//	                               parameters and environment (PGPASSWORD) hold
//
// More than one process may have the same ledger open, and run it.
func Open(ctx context.Context, dsn string, opts Options) (*Ledger, error) {
	d, err := dialectOf(dsn)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	opts = opts.withDefaults()
	name, write, read, err := d.open(ctx, dsn, &opts)
	if err != nil {
		return nil, fmt.Errorf("ledger: open %s: %w", name, err)
	}
	l := &Ledger{opts: opts, dialect: d, name: name, write: write, read: read}
	if opts.ReadOnly {
		err = d.checkVersion(ctx, read)
	} else {
		err = d.migrate(ctx, write)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: open %s: %w", name, err), l.Close())
	}
	l.metrics = newMetrics(opts.Metrics, func() float64 { return float64(l.Lag()) }, func() float64 { return float64(l.halted()) })
	return l, nil
}

// CheckDSN returns why Open can't know what dsn means.
func CheckDSN(dsn string) error {
	d, err := dialectOf(dsn)
	if err == nil && d.remote {
		_, err = postgresConfig(dsn, &Options{})
	}
	return err
}

// IsAway reports whether err, of any call, says that the database can't be
// reached or does not serve now, which says nothing of what is in it; or that a
// reader came before the process that makes or upgrades the ledger in it.
func IsAway(err error) bool { return err != nil && (errors.Is(err, errBehind) || isAway(err)) }

// bounded bounds the wait for an answer of a database that is elsewhere: a
// link that is cut without a word would else be waited on for ever.
func (l *Ledger) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if !l.dialect.remote {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, l.opts.AnswerWithin)
}

// Close closes the database. Run must have returned.
func (l *Ledger) Close() error {
	var err error
	if l.read != nil {
		err = l.read.Close()
	}
	if l.write != nil {
		err = errors.Join(err, l.write.Close()) // last: it folds the write-ahead log into the file
	}
	return err
}
