package filelog

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/veltrix/cairn/internal/eventlog"
)

// Open opens the logs in a folder, which it makes if need be. It checks what
// the folder holds before it changes anything there (see check). Errors:
// ErrInUse if another process, or this one, has the folder open; ErrDamaged,
// with the file's or the record's name, if something that was acknowledged is
// missing or is not what was written.
func Open(dir string, opts Options) (_ *Store, err error) {
	opts = opts.withDefaults()
	s := &Store{
		dir: dir, opts: opts,
		corrupt: new(corruption),
		logs:    make(map[eventlog.Name]*logState),
		done:    make(chan struct{}),
		failed:  make(chan struct{}),
		stuck:   make(chan error, 1),
		jobs:    make(chan job),
	}
	disk := opts.FS
	if opts.ReadOnly {
		disk = readOnlyFS{opts.FS, s.corrupt}
	} else if err := makeFolder(opts.FS, dir); err != nil {
		return nil, dirError(dir, err)
	}
	if s.lock, err = lockFolder(dir, disk); err != nil {
		return nil, dirError(dir, err)
	}
	if err := s.open(); err != nil {
		return nil, dirError(dir, errors.Join(err, s.lock.Close()))
	}
	return s, nil
}

// makeFolder makes the folder and those above it, so that a power cut does not
// take them away again.
func makeFolder(disk vfs.FS, dir string) error {
	if _, err := disk.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := disk.PathDir(dir)
	if parent == "" {
		parent = "."
	}
	if parent != dir {
		if err := makeFolder(disk, parent); err != nil {
			return err
		}
	}
	if err := disk.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncFolder(disk, parent)
}

func syncFolder(disk vfs.FS, dir string) error {
	d, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockFolder takes the folder's lock, which Pebble keeps in the file LOCK.
func lockFolder(dir string, disk vfs.FS) (*pebble.Lock, error) {
	if _, err := disk.Stat(dir); err != nil {
		return nil, err
	}
	lock, err := pebble.LockDirectory(dir, disk)
	switch {
	case err == nil:
		return lock, nil
	case errors.Is(err, syscall.EAGAIN), strings.Contains(err.Error(), "lock held by current process"):
		return nil, fmt.Errorf("%w: end that one first, or give this one another folder", eventlog.ErrInUse)
	}
	return nil, fmt.Errorf("lock: %w", err)
}

// open checks the folder and opens the database. The lock is held.
func (s *Store) open() error {
	names, err := s.opts.FS.List(s.dir)
	if err != nil {
		return err
	}
	found := look(names)
	list, wal, err := readMarks(s.opts.FS, s.path(marksName))
	switch {
	case errors.Is(err, fs.ErrNotExist) && found.database:
		return fmt.Errorf("%w: file %s is missing", eventlog.ErrDamaged, marksName)
	case err != nil && found.database:
		return fmt.Errorf("%w: file %s: %w", eventlog.ErrDamaged, marksName, err)
	case err != nil && s.opts.ReadOnly:
		return errors.New("there is no store here")
	case err != nil: // a new folder, or one whose making was cut short
		list, wal = nil, 0
	}
	if err := found.missing(len(list)); err != nil {
		return err
	}
	if found.database {
		if err := s.preflight(list); err != nil {
			return s.blame(err, wal)
		}
		if s.opts.ReadOnly {
			if err := s.register(); err != nil {
				return errors.Join(err, s.db.Close())
			}
			return nil
		}
	} else if s.opts.ReadOnly {
		return errors.New("there is no store here")
	}
	return s.openWriting(found.database, list, wal)
}

// preflight reads the folder without changing it, and checks it. When the
// store is read-only, the database stays open.
//
// It comes before a database that may write is opened because that one would
// take a log whose end is cut for one that ends there, write it out so, and
// drop what could have been repaired.
func (s *Store) preflight(list []mark) error {
	if err := s.checkManifest(); err != nil {
		return err
	}
	db, err := s.openDB(readOnlyFS{s.opts.FS, s.corrupt}, true)
	if err != nil {
		return err
	}
	logs, err := check(db, list, s.opts.RingBytesMax)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	s.logs = logs
	if s.opts.ReadOnly {
		if err := s.checkTables(db); err != nil {
			return errors.Join(err, db.Close())
		}
		s.db = db
		return nil
	}
	return db.Close()
}

// openWriting opens a folder that was checked, or is new.
func (s *Store) openWriting(old bool, list []mark, wal uint64) (err error) {
	if s.marks, err = openMarks(s.opts.FS, s.path(marksName), !old, uint64(len(list)), wal); err != nil {
		return fmt.Errorf("%s: %w", marksName, err)
	}
	if err := syncFolder(s.opts.FS, s.dir); err != nil {
		return errors.Join(err, s.marks.file.Close())
	}
	if s.db, err = s.openGuarded(); err != nil {
		return err // the high-water file stays open: what hangs may write there
	}
	s.marks.syncEvery(s.opts.MarksEvery, s.fail)
	if err := errors.Join(s.catchUpMarks(list), s.register()); err != nil {
		s.marks.halt()
		return errors.Join(err, s.db.Close(), s.marks.file.Close())
	}
	return nil
}

// catchUpMarks raises the marks to the heads: Pebble has made all durable
// that it recovered, including records nobody was told of.
func (s *Store) catchUpMarks(list []mark) error {
	for i, k := range list {
		l := s.logs[k.name]
		l.slot = i
		if l.volatile || k.offset == l.last.Offset {
			continue
		}
		if err := s.marks.set(i, k.name, l.last.Offset); err != nil {
			return err
		}
	}
	// Logs whose provisioning was cut off before they got a slot.
	for name, l := range s.logs {
		if l.slot >= 0 {
			continue
		}
		slot, err := s.marks.add(mark{name, l.last.Offset})
		if err != nil {
			return err
		}
		l.slot = slot
	}
	return s.marks.file.Sync()
}

func (s *Store) register() error {
	s.metrics = newMetrics(s.db, s.opts.FS, s.dir)
	return s.metrics.register(s.opts.Metrics)
}

// openGuarded opens the database for writing. If the disk refuses that, what
// was opened stays so, and the folder locked, until the process ends.
func (s *Store) openGuarded() (*pebble.DB, error) {
	type result struct {
		db  *pebble.DB
		err error
	}
	opened := make(chan result, 1)
	go func() {
		db, err := s.openDB(guardedFS{s.opts.FS, s}, false)
		opened <- result{db, err}
	}()
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, r.err
		}
		return r.db, s.serve()
	case err := <-s.stuck:
		return nil, err
	case <-s.failed:
		return nil, s.failureErr()
	}
}

// openDB opens the database. Pebble panics on some kinds of damage: that is
// an error here.
func (s *Store) openDB(disk vfs.FS, readOnly bool) (db *pebble.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("%w: %v", eventlog.ErrDamaged, p)
		}
	}()
	o := &pebble.Options{
		FS:                 disk,
		Lock:               s.lock,
		ReadOnly:           readOnly,
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       s.opts.memTableBytes,
		CacheSize:          32 << 20,
		Logger:             logger{s},
	}
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) { s.opts.Log.Error("log database", "dir", s.dir, "err", err) },
		DataCorruption:  func(i pebble.DataCorruptionInfo) { s.corrupt.name(i.Path) },
		WALCreated: func(i pebble.WALCreateInfo) {
			if (guardedFS{s.opts.FS, s}).guard("create", i.Path, i.Err) == nil && s.marks != nil {
				if err := s.marks.created(uint64(i.FileNum)); err != nil {
					s.fail(err)
				}
			}
		},
	}
	return pebble.Open(s.dir, o)
}

func (s *Store) path(name string) string { return s.opts.FS.PathJoin(s.dir, name) }

// logger gives Pebble's words to ours. What Pebble does is of interest only
// where it fails.
type logger struct{ s *Store }

func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.s.opts.Log.Error("log database", "dir", l.s.dir, "err", fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) { l.s.fatal(fmt.Errorf(format, args...)) }
