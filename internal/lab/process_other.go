//go:build unix && !linux

package lab

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// endWithParent does nothing: only Linux ends a process with its parent.
func endWithParent(*syscall.SysProcAttr) {}

// Identify says who has an id now, as ps(1) has it.
func Identify(pid int) Identity {
	id := Identity{Pid: pid}
	out, err := exec.Command("ps", "-p", strconv.Itoa(pid), "-o", "lstart=").Output()
	if err != nil {
		return id
	}
	command, err := exec.Command("ps", "-p", strconv.Itoa(pid), "-o", "args=").Output()
	if err != nil {
		return id
	}
	id.Started, id.Command = strings.TrimSpace(string(out)), strings.TrimSpace(string(command))
	return id
}

// stopped reports whether a process is stopped.
func stopped(pid int) bool {
	out, err := exec.Command("ps", "-p", strconv.Itoa(pid), "-o", "state=").Output()
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(out)), "T")
}

// childrenOf returns the ids of what a process started, and has not ended.
func childrenOf(pid int) []int {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	if err != nil {
		return nil // none
	}
	var pids []int
	for _, f := range strings.Fields(string(out)) {
		if n, err := strconv.Atoi(f); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}
