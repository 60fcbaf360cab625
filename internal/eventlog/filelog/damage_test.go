package filelog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/veltrix/cairn/internal/eventlog"
)

// livingFolder returns a folder as kill -9 leaves it, with records in tables
// and in the write-ahead log, and the last offset of s00.
func livingFolder(t *testing.T) (dir string, last eventlog.Offset) {
	t.Helper()
	ctx := context.Background()
	from := t.TempDir()
	s := mustOpen(t, from, Options{})
	if err := s.Provision(ctx, eventlog.Spec{Name: "s00"}, eventlog.Spec{Name: "s01"}); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		for _, log := range []eventlog.Name{"s01", "s00"} {
			w, err := s.Open(ctx, log)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 30 {
				if last, err = w.Append(ctx, fmt.Appendf(nil, "%s %d %s", log, i, strings.Repeat("b", i*20)), eventlog.Offset{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if round == 0 {
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir = t.TempDir()
	copyFolder(t, from, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, last
}

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func readWhole(dir string, readOnly bool) error {
	s, err := Open(dir, Options{ReadOnly: readOnly})
	if err != nil {
		return err
	}
	defer s.Close()
	names, err := s.Logs(context.Background())
	if err != nil {
		return err
	}
	if len(names) != 2 {
		return fmt.Errorf("logs %v", names)
	}
	for _, log := range names {
		if _, err := readAll(s, log); err != nil {
			return err
		}
	}
	return nil
}

// TestDamagedFiles deletes, cuts and alters each file of a folder in turn.
func TestDamagedFiles(t *testing.T) {
	living, _ := livingFolder(t)
	if err := readWhole(living, true); err != nil {
		t.Fatalf("before any damage: %v", err)
	}
	var names []string
	entries, err := os.ReadDir(living)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	harm := 0
	for _, name := range names {
		for how, damage := range damages {
			for _, readOnly := range []bool{true, false} {
				dir := t.TempDir()
				copyFolder(t, living, dir)
				if !damage(t, filepath.Join(dir, name)) {
					continue
				}
				err := readWhole(dir, readOnly)
				if err == nil {
					if !harmless(names, name, how) {
						t.Errorf("%s %s (read-only %v): not noticed", name, how, readOnly)
					}
					continue
				}
				harm++
				if !errors.Is(err, eventlog.ErrDamaged) || !strings.Contains(err.Error(), blamed(name)) {
					t.Errorf("%s %s (read-only %v): error %q, want ErrDamaged and %q", name, how, readOnly, err, blamed(name))
				}
			}
		}
	}
	if harm < 20 {
		t.Errorf("%d kinds of damage were noticed: the folder holds too little: %v", harm, names)
	}
}

// harmless damages no record: the lock is empty; what options there were is of
// use only to Pebble's tools; a write-ahead log that is not the newest is kept
// to be written over; and a manifest may be torn where the records that it had
// put into a table are in the write-ahead log still.
func harmless(names []string, name, how string) bool {
	newest := ""
	for _, n := range names {
		if strings.HasSuffix(n, ".log") {
			newest = max(newest, n)
		}
	}
	return name == "LOCK" || strings.HasPrefix(name, "OPTIONS-") ||
		strings.HasSuffix(name, ".log") && name != newest ||
		strings.HasPrefix(name, "MANIFEST-") && strings.HasPrefix(how, "cut")
}

// blamed is what an error about a file says: a marker has its content in its
// name, and is named without.
func blamed(name string) string {
	if parts := strings.Split(name, "."); parts[0] == "marker" {
		return parts[0] + "." + parts[1]
	}
	return name
}

var damages = map[string]func(t *testing.T, path string) bool{
	"deleted": func(t *testing.T, path string) bool {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return true
	},
	"emptied":            func(t *testing.T, path string) bool { return cut(t, path, 0) },
	"cut by half":        func(t *testing.T, path string) bool { return cut(t, path, 0.5) },
	"cut at its end":     func(t *testing.T, path string) bool { return cut(t, path, 0.97) },
	"altered early":      func(t *testing.T, path string) bool { return alter(t, path, 0.03) },
	"altered half-way":   func(t *testing.T, path string) bool { return alter(t, path, 0.5) },
	"altered at its end": func(t *testing.T, path string) bool { return alter(t, path, 0.97) },
}

// content returns the bytes of a file without the zeros that are room for more.
func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".log") {
		b = []byte(strings.TrimRight(string(b), "\x00"))
	}
	return b
}

func cut(t *testing.T, path string, at float64) bool {
	b := content(t, path)
	if len(b) == 0 {
		return false
	}
	if err := os.Truncate(path, int64(float64(len(b))*at)); err != nil {
		t.Fatal(err)
	}
	return true
}

func alter(t *testing.T, path string, at float64) bool {
	b := content(t, path)
	if len(b) == 0 {
		return false
	}
	b[int(float64(len(b))*at)] ^= 0x10
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return true
}

// TestCutTail cuts the write-ahead log at every byte of its last records.
func TestCutTail(t *testing.T) {
	living, last := livingFolder(t)
	names, err := filepath.Glob(filepath.Join(living, "*.log"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	newest := filepath.Base(slices.Max(names))
	whole := len(content(t, filepath.Join(living, newest)))
	for n := whole - 700; n < whole; n += 13 {
		dir := t.TempDir()
		copyFolder(t, living, dir)
		if err := os.Truncate(filepath.Join(dir, newest), int64(n)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a refusal must not mend it
			_, err := Open(dir, Options{})
			if !errors.Is(err, eventlog.ErrDamaged) || !strings.Contains(err.Error(), newest) || !strings.Contains(err.Error(), last.String()) {
				t.Fatalf("cut %d bytes: error %v, want ErrDamaged, %s and %v", whole-n, err, newest, last)
			}
		}
	}
}

// TestDamagedRecords alters and drops records in the database, which Pebble
// itself has no objection to.
func TestDamagedRecords(t *testing.T) {
	living, last := livingFolder(t)
	early := eventlog.Offset{Epoch: 1, Seq: 7}
	late := eventlog.Offset{Epoch: last.Epoch, Seq: last.Seq - 3}
	key := func(o eventlog.Offset) []byte { return appendRecordKey(nil, "s00", o) }
	drop := func(o eventlog.Offset) func(*pebble.DB) error {
		return func(db *pebble.DB) error { return db.Delete(key(o), pebble.Sync) }
	}
	change := func(o eventlog.Offset, at int) func(*pebble.DB) error {
		return func(db *pebble.DB) error {
			v, closer, err := db.Get(key(o))
			if err != nil {
				return err
			}
			defer closer.Close()
			v = slices.Clone(v)
			v[at] ^= 1
			return db.Set(key(o), v, pebble.Sync)
		}
	}
	head := appendKey(nil, keyHead, "s00")
	for _, c := range []struct {
		what string
		do   func(*pebble.DB) error
		want string
	}{
		{"an early record dropped", drop(early), "1-8"},
		{"an early body altered", change(early, recordHeadBytes), "1-7"},
		{"an early mark altered", change(early, 50), "1-7"},
		{"an early nonce altered", change(early, 3), "1-7"},
		{"an early chain hash altered", change(early, 12), "1-7"},
		{"an early kind altered", change(early, 1), "1-7"},
		{"an early version altered", change(early, 0), "1-7"},
		{"a fence dropped", drop(eventlog.Offset{Epoch: 2}), "2-1"},
		{"the genesis dropped", drop(eventlog.GenesisOffset), "genesis"},
		{"the genesis altered", change(eventlog.GenesisOffset, recordHeadBytes+3), "0-1"},
		{"a late record dropped", drop(late), fmt.Sprint(eventlog.Offset{Epoch: late.Epoch, Seq: late.Seq + 1})},
		{"a late body altered", change(late, recordHeadBytes+1), late.String()},
		{"the newest dropped", drop(last), last.String()},
		{"the newest altered", change(last, recordHeadBytes+1), last.String()},
		{"the newest dropped with its head", func(db *pebble.DB) error {
			v, closer, err := db.Get(key(eventlog.Offset{Epoch: last.Epoch, Seq: last.Seq - 1}))
			if err != nil {
				return err
			}
			defer closer.Close()
			hv, closer2, err := db.Get(head)
			if err != nil {
				return err
			}
			defer closer2.Close()
			h, err := decodeHead(hv)
			if err != nil {
				return err
			}
			h.offset.Seq--
			h.chain = eventlog.Chain(v[10:26])
			return errors.Join(drop(last)(db), db.Set(head, h.appendTo(nil), pebble.Sync))
		}, last.String()},
		{"the head dropped", func(db *pebble.DB) error { return db.Delete(head, pebble.Sync) }, "s00"},
		{"the head altered", func(db *pebble.DB) error { return db.Set(head, []byte("x"), pebble.Sync) }, "s00"},
		{"records behind the base dropped", func(db *pebble.DB) error {
			return db.DeleteRange(key(eventlog.Offset{Epoch: 1}), key(early), pebble.Sync)
		}, "1-7"},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			copyFolder(t, living, dir)
			db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.do(db), db.Close()); err != nil {
				t.Fatal(err)
			}
			for _, readOnly := range []bool{true, false} {
				err := readWhole(dir, readOnly)
				if !errors.Is(err, eventlog.ErrDamaged) || !strings.Contains(err.Error(), "s00") || !strings.Contains(err.Error(), c.want) {
					t.Errorf("read-only %v: error %v, want ErrDamaged, s00 and %q", readOnly, err, c.want)
				}
			}
		})
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)            {}
func (quiet) Errorf(string, ...any)           {}
func (quiet) Fatalf(format string, as ...any) { panic(fmt.Sprintf(format, as...)) }

// TestReadOnly: not a byte of the folder changes, and no file is rewritten.
func TestReadOnly(t *testing.T) {
	living, _ := livingFolder(t)
	before := snapshot(t, living)
	if err := readWhole(living, true); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, living, Options{ReadOnly: true})
	ctx := context.Background()
	if _, err := s.Open(ctx, "s00"); err == nil {
		t.Error("Open: no error")
	}
	if err := s.Provision(ctx, eventlog.Spec{Name: "s05"}); err == nil {
		t.Error("Provision: no error")
	}
	if err := s.Provision(ctx, eventlog.Spec{Name: "s00"}); err != nil {
		t.Errorf("Provision of what is there: %v", err)
	}
	if err := s.Trim(ctx, "s00", eventlog.Offset{Epoch: 2}); err == nil {
		t.Error("Trim: no error")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after := snapshot(t, living); after != before {
		t.Errorf("the folder became\n%swas\n%s", after, before)
	}

	empty := t.TempDir()
	if _, err := Open(empty, Options{ReadOnly: true}); err == nil {
		t.Error("an empty folder opened read-only: no error")
	}
	if got := snapshot(t, empty); got != "" {
		t.Errorf("an empty folder became\n%s", got)
	}
	if _, err := Open(filepath.Join(empty, "no"), Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: error %v, want not exist", err)
	}
}

func snapshot(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		body, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		changed := info.ModTime().UnixNano()
		if e.Name() == "LOCK" {
			changed = 0 // taking a lock counts as a change
		}
		fmt.Fprintf(&b, "%s %d %v %x\n", e.Name(), info.Size(), changed, eventlog.NextChain(eventlog.Chain{}, &eventlog.Record{Body: body}))
	}
	return b.String()
}
