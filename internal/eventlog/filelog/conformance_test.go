package filelog

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/logtest"
)

func TestConformance(t *testing.T) {
	t.Run("disk", func(t *testing.T) {
		logtest.Run(t, func(t *testing.T) logtest.Backend { return backend(t, t.TempDir(), Options{}) })
	})
	// A ring so small that followers read from the database.
	t.Run("memory, small ring", func(t *testing.T) {
		logtest.Run(t, func(t *testing.T) logtest.Backend {
			return backend(t, "logs", Options{FS: vfs.NewMem(), RingBytesMax: 1})
		})
	})
}

func backend(t testing.TB, dir string, opts Options) logtest.Backend {
	t.Helper()
	s := mustOpen(t, dir, opts)
	return logtest.Backend{
		Store: s,
		Reopen: func(t testing.TB) eventlog.Store {
			t.Helper()
			if err := s.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			s = mustOpen(t, dir, opts)
			return s
		},
	}
}

func mustOpen(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}
