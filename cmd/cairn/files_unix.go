//go:build unix

package main

import "syscall"

// fileLimit returns how many files this process may have open, sockets
// included. Go raises the soft limit to the hard one by itself.
func fileLimit() (n int, ok bool) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > 100_000_000 {
		return 0, false // there is none
	}
	return int(l.Cur), true
}
