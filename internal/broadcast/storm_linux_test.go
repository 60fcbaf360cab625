package broadcast

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

func init() {
	// Small segments: a socket with little room would crawl with those that
	// loopback has.
	smallSegments = func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1000) })
	}
}

// leftover says what the loops still have of connections, if anything.
func (ls *loops) leftover() string {
	if ls == nil {
		return ""
	}
	for _, l := range *ls {
		l.mu.Lock()
		kept := fmt.Sprintf("%d stalls, %d with more hunts, %d endings, %d audiences of %d, %d behind, ",
			len(l.stalls), len(l.more), len(l.endings), len(l.byView), len(l.audiences)-1-len(l.unused), len(l.behind))
		used, sessions, flags := 0, 0, map[uint16]int{}
		for _, sl := range l.slabs {
			for i := range sl.records {
				if r := &sl.records[i]; r.fd >= 0 {
					used++
					flags[r.flags]++
				}
				if sl.sessions[i] != nil {
					sessions++
				}
			}
		}
		free := len(l.slabs)*slabSize - len(l.free)
		l.mu.Unlock()
		kept += fmt.Sprintf("%d records, %d sessions, %d slots", used, sessions, free)
		if kept != "0 stalls, 0 with more hunts, 0 endings, 0 audiences of 0, 0 behind, 0 records, 0 sessions, 0 slots" {
			return fmt.Sprintf("a loop has %s; by flags %v", kept, flags)
		}
	}
	return ""
}
