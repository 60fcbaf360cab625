package leaderboard

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A checkpoints is the durable snapshots of one projection: the newest at
// path, the one before it at path.prev. A crash at any step leaves at least
// the one that was durable last:
//
//	write path.tmp, sync it ─ rename path → path.prev ─ rename path.tmp → path ─ sync the folder
type checkpoints struct {
	fs   vfs.FS
	path string
}

func (c *checkpoints) prev() string { return c.path + ".prev" }

// write makes b the newest checkpoint, and reports whether the one that was the
// newest is now the one before it: one that can't be read is not kept. The file
// system may change b.
func (c *checkpoints) write(b []byte) (rotated bool, err error) {
	tmp := c.path + ".tmp"
	f, err := c.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return false, fmt.Errorf("leaderboard: checkpoint: %w", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return false, fmt.Errorf("leaderboard: checkpoint: %w", err)
	}
	// Never let a checkpoint that can't be read push out one that can.
	if _, err := c.read(c.path); err == nil {
		rotated = true
		if err := c.fs.Rename(c.path, c.prev()); err != nil {
			return false, fmt.Errorf("leaderboard: checkpoint: %w", err)
		}
	}
	if err := c.fs.Rename(tmp, c.path); err != nil {
		return false, fmt.Errorf("leaderboard: checkpoint: %w", err)
	}
	dir, err := c.fs.OpenDir(c.fs.PathDir(c.path))
	if err != nil {
		return false, fmt.Errorf("leaderboard: checkpoint: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return false, fmt.Errorf("leaderboard: checkpoint: %w", err)
	}
	return rotated, nil
}

// read returns the bytes of a checkpoint whose hash is right.
func (c *checkpoints) read(path string) ([]byte, error) {
	f, err := c.fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return b, checkImage(b)
}

// A start is a fold to start from.
type start struct {
	what    string // for people: which checkpoint, or none
	fold    *fold
	genesis map[int][16]byte
}

// starts returns the folds to start from, the best first: the checkpoints that
// can be read, and at last an empty fold. skipped says what was passed over.
func (c *checkpoints) starts(r rules) (found []start, skipped []error) {
	if c.path != "" {
		for _, path := range []string{c.path, c.prev()} {
			b, err := c.read(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			var s start
			if err == nil {
				s.fold, s.genesis, err = decodeFold(b, r)
			}
			if err != nil {
				skipped = append(skipped, fmt.Errorf("%s: %w", path, err))
				continue
			}
			s.what = path
			found = append(found, s)
		}
	}
	return append(found, start{what: "the start of the logs", fold: newFold(r), genesis: map[int][16]byte{}}), skipped
}

// offsets returns how far s has folded each shard.
func (s *start) offsets() map[int]eventlog.Offset {
	out := map[int]eventlog.Offset{}
	for _, i := range s.fold.order {
		out[i] = s.fold.shards[i].offset
	}
	return out
}

// saved is what the checkpoints on disk cover.
type saved struct {
	mu           sync.Mutex
	newest, prev map[int]eventlog.Offset // nil if there is none that can be started from
}

// set notes what a start found on disk.
func (s *saved) set(found []start, c *checkpoints) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest, s.prev = nil, nil
	for i := range found {
		switch found[i].what {
		case c.path:
			s.newest = found[i].offsets()
		case c.prev():
			s.prev = found[i].offsets()
		}
	}
}

// wrote notes a new checkpoint, and whether the newest became the one before.
func (s *saved) wrote(offsets map[int]eventlog.Offset, rotated bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rotated {
		s.prev = s.newest
	}
	s.newest = offsets
}

// durable returns what may be trimmed from the logs with both checkpoints
// still good to start from, and the newest not the only one.
func (s *saved) durable() map[int]eventlog.Offset {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[int]eventlog.Offset, len(s.prev))
	maps.Copy(out, s.prev)
	return out
}
