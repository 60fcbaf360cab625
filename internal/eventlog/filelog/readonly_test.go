package filelog

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/veltrix/cairn/internal/eventlog"
)

// frozenDisk is a disk that is mounted read-only.
type frozenDisk struct{ vfs.FS }

func (frozenDisk) Lock(name string) (io.Closer, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EROFS}
}

// TestReadOnlyDisk reads a folder on a disk that is mounted read-only, such as
// a backup, where no lock can be taken and none is needed.
func TestReadOnlyDisk(t *testing.T) {
	dir, last := livingFolder(t)
	s := mustOpen(t, dir, Options{ReadOnly: true, FS: frozenDisk{vfs.Default}})
	if st, err := s.Status(t.Context(), "s00"); err != nil || st.Last != last {
		t.Errorf("got %v (%v), want %v", st.Last, err, last)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(dir, Options{FS: frozenDisk{vfs.Default}}); !errors.Is(err, syscall.EROFS) || errors.Is(err, eventlog.ErrInUse) {
		t.Errorf("for writing: got %v, want EROFS", err)
	}
}
