//go:build unix

package crowd

import (
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// filesMax returns how many files this process may have open.
func filesMax() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return int(min(l.Cur, 1<<20))
}

// detach keeps an interrupt that is typed at a terminal from a worker: its
// parent ends it.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
