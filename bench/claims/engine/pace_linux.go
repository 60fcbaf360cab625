package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleepUntil sleeps in the kernel, which wakes it some 50 µs late at most: a
// timer of Go's may be a millisecond late where nothing else is to be done.
func sleepUntil(t time.Time) {
	for {
		d := time.Until(t)
		if d <= 0 {
			return
		}
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil) // interrupted: sleeps again
	}
}
