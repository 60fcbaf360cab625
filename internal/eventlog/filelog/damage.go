package filelog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A folder is what its file names tell.
type folder struct {
	manifest, format bool // Pebble's markers of the newest manifest and of its format
	database         bool // there is a database, or was
}

func look(names []string) folder {
	var f folder
	for _, name := range names {
		f.manifest = f.manifest || strings.HasPrefix(name, "marker.manifest.")
		f.format = f.format || strings.HasPrefix(name, "marker.format-version.")
	}
	f.database = f.manifest
	return f
}

// missing reports a marker without which Pebble would take the folder for
// empty, or for one that it should not touch. marked is how many logs have
// a mark.
func (f folder) missing(marked int) error {
	switch {
	case !f.manifest && marked > 0:
		return fmt.Errorf("%w: file marker.manifest.* is missing", eventlog.ErrDamaged)
	case !f.format && marked > 0:
		return fmt.Errorf("%w: file marker.format-version.* is missing", eventlog.ErrDamaged)
	}
	return nil
}

// damage says that what err tells is damage, and in which file if Pebble
// named it. Use blame where the folder can be searched for more.
func (s *Store) damage(err error) error {
	if errors.Is(err, eventlog.ErrDamaged) {
		return err
	}
	if p := s.corrupt.named.Load(); p != nil && !strings.Contains(err.Error(), s.opts.FS.PathBase(*p)) {
		return fmt.Errorf("%w: file %s: %w", eventlog.ErrDamaged, s.opts.FS.PathBase(*p), err)
	}
	return fmt.Errorf("%w: %w", eventlog.ErrDamaged, err)
}

var fileName = regexp.MustCompile(`\b(\d{6,}\.(sst|log|blob)|MANIFEST-\d{6,}|OPTIONS-\d{6,}|marker\.[a-z-]+\.\d+\.\S+)`)

// tableGone is how Pebble says that a table is not there.
var tableGone = regexp.MustCompile(`file (\d{6,}) \(type sstable\) unknown`)

// blame turns an error of opening the folder into one that names the file
// that is to blame. wal is the newest write-ahead log there ever was.
func (s *Store) blame(err error, wal uint64) error {
	if errors.Is(err, errCut) {
		return fmt.Errorf("file %s: %w", s.cutFile(wal), err)
	}
	if errors.Is(err, eventlog.ErrDamaged) || s.isCorruption(err) {
		if fileName.MatchString(err.Error()) {
			return s.damage(err)
		}
		if s.corrupt.named.Load() == nil {
			if f := s.badManifest(); f != "" {
				return fmt.Errorf("%w: file %s: %w", eventlog.ErrDamaged, f, err)
			}
			if m := tableGone.FindStringSubmatch(err.Error()); m != nil {
				return fmt.Errorf("%w: file %s.sst is missing: %w", eventlog.ErrDamaged, m[1], err)
			}
			if p := s.corrupt.last.Load(); p != nil && !errors.Is(err, eventlog.ErrDamaged) {
				s.corrupt.name(*p)
			}
		}
		return s.damage(err)
	}
	return err
}

// isCorruption reports whether err is of damage rather than of a disk that
// can't be read just now.
func (s *Store) isCorruption(err error) bool {
	return pebble.IsCorruptionError(err) ||
		errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, pebble.ErrDBNotPristine) ||
		errors.Is(err, pebble.ErrDBDoesNotExist) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		record.IsInvalidRecord(err) ||
		fileName.MatchString(err.Error())
}

// cutFile returns the file that most likely lacks the end of the logs: the
// newest write-ahead log if it is gone, a manifest that breaks off, or else
// the newest write-ahead log there is.
func (s *Store) cutFile(wal uint64) string {
	names, _ := s.opts.FS.List(s.dir)
	if want := fmt.Sprintf("%06d.log", wal); wal > 0 && !slices.Contains(names, want) {
		return want + " (missing)"
	}
	if f := s.badManifest(); f != "" {
		return f
	}
	newest, n := "the write-ahead log (missing)", uint64(0)
	for _, name := range names {
		num, isLog := strings.CutSuffix(name, ".log")
		if i, err := strconv.ParseUint(num, 10, 64); isLog && err == nil && i >= n {
			newest, n = name, i
		}
	}
	return newest
}

// manifest returns the name of the manifest that the marker points to.
func (s *Store) manifest() string {
	names, _ := s.opts.FS.List(s.dir)
	newest := ""
	for _, name := range names {
		if strings.HasPrefix(name, "marker.manifest.") {
			newest = max(newest, name)
		}
	}
	return newest[strings.LastIndex(newest, ".")+1:]
}

// badManifest returns the manifest's name if it can't be read to its end,
// else "".
func (s *Store) badManifest() string {
	name := s.manifest()
	f, err := s.opts.FS.Open(s.path(name))
	if err != nil {
		return name
	}
	defer f.Close()
	for r := record.NewReader(f, 0); ; {
		rec, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, rec)
		}
		if err == io.EOF {
			return ""
		}
		if err != nil {
			return name
		}
	}
}

// A manifest is blocks of 32 KiB of chunks (pebble/record): crc32c of what is
// behind it, masked (4), length (2), type (1), all little-endian, payload.
const (
	manifestBlockBytes = 32 << 10
	chunkHeadBytes     = 7
)

// checkManifest looks for a chunk of the manifest that is all there and is not
// what was written. Pebble takes it for the end, and would do with what the
// write-ahead log still has. One that is short is a torn end: that is no
// damage, if nothing is missing.
func (s *Store) checkManifest() error {
	name := s.manifest()
	f, err := s.opts.FS.Open(s.path(name))
	if err != nil {
		return fmt.Errorf("%w: file %s: %w", eventlog.ErrDamaged, name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	for pos := 0; len(b) > 0; {
		block := b[:min(manifestBlockBytes, len(b))]
		b = b[len(block):]
		for i := 0; i+chunkHeadBytes <= len(block); {
			n := int(binary.LittleEndian.Uint16(block[i+4:]))
			end := i + chunkHeadBytes + n
			if block[i+6] == 0 && n == 0 {
				break // the rest of the block is room
			}
			if end > len(block) {
				break // torn
			}
			sum := crc32.Checksum(block[i+6:end], castagnoli)
			if got := binary.LittleEndian.Uint32(block[i:]); got != (sum>>15|sum<<17)+0xa282ead8 {
				return fmt.Errorf("%w: file %s: the chunk at byte %d was altered", eventlog.ErrDamaged, name, pos+i)
			}
			i = end
		}
		pos += len(block)
	}
	return nil
}

// checkTables checks every block of every table of the database: also those
// that hold nothing that a follower reads.
func (s *Store) checkTables(db *pebble.DB) error {
	levels, err := db.SSTables()
	if err != nil {
		return err
	}
	for _, level := range levels {
		for _, table := range level {
			name := fmt.Sprintf("%06d.sst", uint64(table.BackingSSTNum))
			if err := s.checkTable(name); err != nil {
				return fmt.Errorf("%w: file %s: %w", eventlog.ErrDamaged, name, err)
			}
		}
	}
	return nil
}

func (s *Store) checkTable(name string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	f, err := s.opts.FS.Open(s.path(name))
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(context.Background(), readable, sstable.ReaderOptions{})
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}
