package filelog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/veltrix/cairn/internal/eventlog"
)

// marksName is the high-water file. It says, for each log, a record that was
// acknowledged, and so must be there. Pebble's recovery stops at the first
// byte of its write-ahead log that it can't read and calls that the end; this
// file tells such a cut from a true end.
//
// A mark is written behind the sync of its record, without a sync of its own.
// After kill -9 the file is therefore as new as the log; after a power cut it
// may be older, and never newer. A header and then a slot a log, 64 bytes each
// so that none straddles a sector, all big-endian:
//
//	header   0 "cairnmk1"   8 slots(8)   16 newest WAL(8)   24 zero   60 crc32c
//	slot     0 name(32)    32 epoch(8)   40 seq(8)          48 zero   60 crc32c
const marksName = "MARKS"

const (
	marksMagic  = "cairnmk1"
	markBytes   = 64
	markSumAt   = markBytes - 4
	marksLogMax = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type mark struct {
	name   eventlog.Name
	offset eventlog.Offset
}

// marks is the high-water file, open for writing.
type marks struct {
	// Static.
	file vfs.File
	stop chan struct{}
	done sync.WaitGroup

	dirty atomic.Bool

	mu    sync.Mutex // guards the header
	slots uint64
	wal   uint64
}

// readMarks reads the high-water file. What can't be read is an error.
func readMarks(fs vfs.FS, path string) (list []mark, wal uint64, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, markBytes*(marksLogMax+2)))
	if err != nil {
		return nil, 0, err
	}
	if len(b) < markBytes || string(b[:8]) != marksMagic || !markSumOK(b[:markBytes]) {
		return nil, 0, fmt.Errorf("its header (%d bytes) can't be what was written", min(len(b), markBytes))
	}
	n := binary.BigEndian.Uint64(b[8:])
	wal = binary.BigEndian.Uint64(b[16:])
	if n > marksLogMax || uint64(len(b)) < markBytes*(n+1) {
		return nil, 0, fmt.Errorf("it has %d bytes: want at least %d for %d logs", len(b), markBytes*(n+1), n)
	}
	for i := range n {
		s := b[markBytes*(i+1):][:markBytes]
		if !markSumOK(s) {
			return nil, 0, fmt.Errorf("its slot %d can't be what was written", i)
		}
		name, _, _ := bytes.Cut(s[:32], []byte{0})
		list = append(list, mark{eventlog.Name(name), offsetAt(s[32:])})
	}
	return list, wal, nil
}

func markSumOK(b []byte) bool {
	return crc32.Checksum(b[:markSumAt], castagnoli) == binary.BigEndian.Uint32(b[markSumAt:])
}

func sealMark(b *[markBytes]byte) {
	binary.BigEndian.PutUint32(b[markSumAt:], crc32.Checksum(b[:markSumAt], castagnoli))
}

// openMarks opens the high-water file for writing, made anew with no slot if
// fresh. The caller syncs the folder.
func openMarks(fs vfs.FS, path string, fresh bool, slots, wal uint64) (*marks, error) {
	m := &marks{stop: make(chan struct{}), slots: slots, wal: wal}
	var err error
	if fresh {
		// Removed first: a creation that was cut short may have left one.
		if m.file, err = fs.Create(path, vfs.WriteCategoryUnspecified); err != nil {
			return nil, err
		}
		if err := m.file.Close(); err != nil {
			return nil, err
		}
	}
	if m.file, err = fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified); err != nil {
		return nil, err
	}
	if fresh {
		m.slots, m.wal = 0, 0
		if err := m.header(); err != nil {
			return nil, err
		}
		if err := m.file.Sync(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// header writes the header. m.mu is held, or m is not shared yet.
func (m *marks) header() error {
	var b [markBytes]byte
	copy(b[:], marksMagic)
	binary.BigEndian.PutUint64(b[8:], m.slots)
	binary.BigEndian.PutUint64(b[16:], m.wal)
	sealMark(&b)
	_, err := m.file.WriteAt(b[:], 0)
	return err
}

// add gives logs a slot each, in order from the first that is free, and
// returns when they are durable.
func (m *marks) add(list ...mark) (first int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first = int(m.slots)
	if first+len(list) > marksLogMax {
		return 0, fmt.Errorf("%d logs: want at most %d", first+len(list), marksLogMax)
	}
	for i, k := range list {
		if err := m.set(first+i, k.name, k.offset); err != nil {
			return 0, err
		}
	}
	// The slots first: a header must not promise what a power cut took.
	if err := m.file.Sync(); err != nil {
		return 0, err
	}
	m.slots += uint64(len(list))
	if err := m.header(); err != nil {
		return 0, err
	}
	return first, m.file.Sync()
}

// set writes a log's mark. Two calls for one slot do not overlap.
func (m *marks) set(slot int, name eventlog.Name, o eventlog.Offset) error {
	var b [markBytes]byte
	copy(b[:32], name)
	appendOffset(b[:32], o)
	sealMark(&b)
	if _, err := m.file.WriteAt(b[:], markBytes*int64(slot+1)); err != nil {
		return fmt.Errorf("%s: %w", marksName, err)
	}
	if !m.dirty.Load() {
		m.dirty.Store(true)
	}
	return nil
}

// created notes that Pebble began a new write-ahead log.
func (m *marks) created(wal uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if wal <= m.wal {
		return nil
	}
	m.wal = wal
	m.dirty.Store(true)
	return m.header()
}

// syncEvery syncs the file now and then until close, and tells fail if that
// can't be done.
func (m *marks) syncEvery(every time.Duration, fail func(error)) {
	m.done.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-m.stop:
				return
			case <-t.C:
			}
			if !m.dirty.Swap(false) {
				continue
			}
			if err := m.file.SyncData(); err != nil {
				fail(fmt.Errorf("%s: %w", marksName, err))
				return
			}
		}
	})
}

// halt ends what syncEvery began.
func (m *marks) halt() {
	close(m.stop)
	m.done.Wait()
}

// close syncs and closes the file.
func (m *marks) close() error {
	m.halt()
	if err := m.file.Sync(); err != nil {
		return fmt.Errorf("%s: %w", marksName, err)
	}
	return m.file.Close()
}
