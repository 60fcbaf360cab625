// Package filelog keeps fenced logs in a folder, in one Pebble database: all
// logs share its write-ahead log, so that appends to different logs that
// arrive together are made durable by one fsync (docs/filelog.md).
//
// It is the backend of a game on one machine. One process at a time may have
// the folder open. An append is acknowledged after fsync, so what was
// acknowledged survives kill -9 and, as far as the disk keeps its word, a
// power cut. A volatile log is written without: it survives a clean end only.
package filelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn/internal/eventlog"
)

// Options tunes a Store. The zero value is ready for production.
type Options struct {
	// ReadOnly opens without changing a byte of the folder: no writer can be
	// opened, nothing provisioned or trimmed. The folder must hold a store
	// that no other process has open.
	ReadOnly bool

	// RingBytesMax bounds the newest records of each log that are kept in
	// memory for followers at the tail; 0 means 1 MiB. The newest record is
	// always kept.
	RingBytesMax int

	// MarksEvery is how often the high-water file is fsynced while the store
	// is written to; 0 means 10 s. Losing it to a power cut costs no record.
	MarksEvery time.Duration

	// Fatal is called once, with what happened, when the disk refused a write:
	// what is in the log is then unknown until it is opened anew. Nothing is
	// acknowledged from then on. Nil means: log it and end the process with
	// status 1. A Fatal that returns leaves a store that can only be
	// abandoned: its Close does not wait for what is stuck.
	Fatal func(error)

	FS      vfs.FS                // nil means the disk
	Log     *slog.Logger          // nil means discard
	Metrics prometheus.Registerer // nil means unregistered

	memTableBytes uint64 // 0 means 32 MiB; less in tests, so that tables are flushed
}

func (o Options) withDefaults() Options {
	if o.RingBytesMax == 0 {
		o.RingBytesMax = 1 << 20
	}
	if o.MarksEvery == 0 {
		o.MarksEvery = 10 * time.Second
	}
	if o.memTableBytes == 0 {
		o.memTableBytes = 32 << 20
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		log := o.Log
		o.Fatal = func(err error) {
			log.Error("the disk refused a write; ending the process", "err", err)
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	return o
}

// A Store is an open folder of logs. It implements [eventlog.Store].
type Store struct {
	// Static after Open.
	dir     string
	opts    Options
	lock    *pebble.Lock
	db      *pebble.DB
	marks   *marks // nil if read-only
	corrupt *corruption
	metrics *metrics
	done    chan struct{} // closed by Close
	failed  chan struct{} // closed by fail
	stuck   chan error    // of 1: why the database can't be opened for writing

	jobs    chan job       // taken by workers that have nothing to do
	workers sync.WaitGroup // each writes records for whoever appends

	mu       sync.Mutex
	logs     map[eventlog.Name]*logState
	serving  bool // the database is open for writing
	closed   bool
	failure  error          // why failed is closed
	inside   sync.WaitGroup // calls that use db; Add under mu
	provides sync.Mutex     // held by Provision
}

var _ eventlog.Store = (*Store)(nil)

// Logs implements [eventlog.Store].
func (s *Store) Logs(context.Context) ([]eventlog.Name, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, s.errorf("%w", eventlog.ErrClosed)
	}
	names := make([]eventlog.Name, 0, len(s.logs))
	for name := range s.logs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Status implements [eventlog.Store].
func (s *Store) Status(_ context.Context, log eventlog.Name) (eventlog.Status, error) {
	l, err := s.log(log)
	if err != nil {
		return eventlog.Status{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return eventlog.Status{
		Genesis:  l.genesis,
		First:    l.first,
		Base:     l.base.offset,
		Last:     l.last.Offset,
		Durable:  l.durable,
		Chain:    l.last.Chain,
		From:     l.last.From,
		Volatile: l.volatile,
	}, nil
}

// Close implements [eventlog.Store]. It waits for appends in flight, makes the
// tail of volatile logs durable and unlocks the folder.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	failure := s.failure
	s.mu.Unlock()
	s.metrics.unregister(s.opts.Metrics)
	if failure != nil {
		// What failed may be parked inside the database for ever: leave it
		// and the lock to the end of the process.
		return s.errorf("closed after a failed write: %w", failure)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.shut() }()
	select {
	case err := <-closed:
		if err != nil {
			return s.errorf("close: %w", err)
		}
		return nil
	case <-s.failed:
		return s.errorf("close: %w", s.failureErr())
	}
}

// shut waits for the calls inside and closes what is open.
func (s *Store) shut() error {
	s.inside.Wait()
	s.workers.Wait()
	err := s.db.Close()
	if s.marks != nil {
		err = errors.Join(err, s.marks.close())
	}
	return errors.Join(err, s.lock.Close())
}

// enter admits a call that uses the database, which must call
// s.inside.Done when it is through.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.errorf("%w", eventlog.ErrClosed)
	}
	s.inside.Add(1)
	return nil
}

// log returns the state of a log, or ErrMissing or ErrClosed.
func (s *Store) log(name eventlog.Name) (*logState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, s.errorf("%w", eventlog.ErrClosed)
	}
	l := s.logs[name]
	if l == nil {
		return nil, s.errorf("log %.40q: %w", string(name), eventlog.ErrMissing)
	}
	return l, nil
}

// fail records that a write failed, so that nothing is acknowledged any more,
// and calls Options.Fatal. Only the first call does.
func (s *Store) fail(err error) {
	s.mu.Lock()
	first := s.failure == nil
	if first {
		s.failure = s.errorf("%w", err)
		close(s.failed)
	}
	s.mu.Unlock()
	if first {
		s.opts.Fatal(s.failure)
	}
}

// fatal is how Pebble reports that it can't go on. It must not return.
func (s *Store) fatal(err error) {
	s.fail(err)
	select {} // Fatal returned: whoever called may be holding the database's locks
}

func (s *Store) errorf(format string, args ...any) error {
	return dirError(s.dir, fmt.Errorf(format, args...))
}

func dirError(dir string, err error) error { return fmt.Errorf("filelog: %s: %w", dir, err) }
