package filelog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A guardedFS is what a database that writes runs on.
//
// It ends the store at the first write to a write-ahead log that fails, there
// and then: Pebble itself would wait for the next commit, or panic with locks
// that it does not hold. While the database is being opened it does so for
// every file: an Open that fails half-way leaves compactions of Pebble's at
// work, which then panic (v2.1.7). Later, Pebble tries tables anew by itself,
// and reports a manifest that it can't write (logger.Fatalf).
//
// It also makes a manifest's name durable before the marker can be that
// points to it: Pebble leaves their order to the disk.
type guardedFS struct {
	vfs.FS
	s *Store
}

// guard returns err where Pebble is to deal with it, and else does not return.
func (g guardedFS) guard(op, name string, err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	wal := strings.HasSuffix(name, ".log")
	err = fmt.Errorf("%s %s: %w", op, g.FS.PathBase(name), err)
	if g.s.stuckOpening(err) {
		select {}
	}
	if wal {
		g.s.fatal(err)
	}
	return err
}

// stuckOpening reports whether the store is still being opened, and then tells
// Open why that fails.
func (s *Store) stuckOpening(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving {
		return false
	}
	select {
	case s.stuck <- err:
	default: // Open knows of one already
	}
	return true
}

// serve ends the opening, unless that is stuck.
func (s *Store) serve() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case err := <-s.stuck:
		return err
	default:
		s.serving = true
		return nil
	}
}

func (g guardedFS) file(f vfs.File, op, name string, err error) (vfs.File, error) {
	if g.guard(op, name, err) != nil {
		return nil, err
	}
	return guardedFile{f, name, g}, nil
}

func (g guardedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, c)
	if err == nil && strings.HasPrefix(g.FS.PathBase(name), "MANIFEST-") {
		err = syncFolder(g.FS, g.FS.PathDir(name))
	}
	return g.file(f, "create", name, err)
}

func (g guardedFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(old, name, c)
	return g.file(f, "create", name, err)
}

func (g guardedFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.FS.OpenReadWrite(name, c, opts...)
	return g.file(f, "create", name, err)
}

func (g guardedFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return g.file(f, "open", name, err)
}

func (g guardedFS) Link(old, name string) error {
	return g.guard("link", name, g.FS.Link(old, name))
}

func (g guardedFS) Rename(old, name string) error {
	return g.guard("rename", name, g.FS.Rename(old, name))
}

func (g guardedFS) Remove(name string) error {
	err := g.FS.Remove(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if g.s.stuckOpening(fmt.Errorf("remove %s: %w", g.FS.PathBase(name), err)) {
		select {}
	}
	return err // a file left over is no harm, a write-ahead log neither
}

// Unwrap implements vfs.FS.
func (g guardedFS) Unwrap() vfs.FS { return g.FS }

type guardedFile struct {
	vfs.File
	name string
	fs   guardedFS
}

func (f guardedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.fs.guard("write", f.name, err)
}

func (f guardedFile) Sync() error     { return f.fs.guard("sync", f.name, f.File.Sync()) }
func (f guardedFile) SyncData() error { return f.fs.guard("sync", f.name, f.File.SyncData()) }
func (f guardedFile) Close() error    { return f.fs.guard("close", f.name, f.File.Close()) }

func (f guardedFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.fs.guard("sync", f.name, err)
}

// A readOnlyFS refuses whatever would change the disk, and notes what it reads.
type readOnlyFS struct {
	vfs.FS
	corrupt *corruption
}

func refuse(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: os.ErrPermission} }

func (readOnlyFS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, refuse("create", name)
}

func (readOnlyFS) Link(_, name string) error { return refuse("link", name) }

func (readOnlyFS) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, refuse("open for writing", name)
}

func (readOnlyFS) Remove(name string) error    { return refuse("remove", name) }
func (readOnlyFS) RemoveAll(name string) error { return refuse("remove", name) }
func (readOnlyFS) Rename(_, name string) error { return refuse("rename", name) }

func (readOnlyFS) ReuseForWrite(_, name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, refuse("reuse", name)
}

func (readOnlyFS) MkdirAll(name string, _ os.FileMode) error { return refuse("mkdir", name) }

// Lock takes the lock if there is one to take: nobody has a folder open that
// has none, nor writes to a disk that can't be written to.
func (r readOnlyFS) Lock(name string) (io.Closer, error) {
	if _, err := r.FS.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return io.NopCloser(nil), nil
	}
	lock, err := r.FS.Lock(name)
	if errors.Is(err, syscall.EROFS) {
		return io.NopCloser(nil), nil
	}
	return lock, err
}

func (r readOnlyFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := r.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return readFile{f, name, r.corrupt}, nil
}

// Unwrap implements vfs.FS.
func (r readOnlyFS) Unwrap() vfs.FS { return r.FS }

// A readFile notes when it is read.
type readFile struct {
	vfs.File
	name    string
	corrupt *corruption
}

func (f readFile) Read(p []byte) (int, error) {
	f.corrupt.reads(&f.name)
	return f.File.Read(p)
}

func (f readFile) ReadAt(p []byte, off int64) (int, error) {
	f.corrupt.reads(&f.name)
	return f.File.ReadAt(p, off)
}

// corruption remembers which file may be damaged.
type corruption struct {
	named atomic.Pointer[string] // by Pebble
	last  atomic.Pointer[string] // read last
}

func (c *corruption) name(path string)   { c.named.Store(&path) }
func (c *corruption) reads(path *string) { c.last.Store(path) }
