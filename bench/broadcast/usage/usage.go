//go:build linux

// Package usage reads from proc(5) what processes and the kernel's sockets
// use.
package usage

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU returns the time that processes have spent so far, in user mode and in
// the kernel, all their threads together, those that have ended too. It is what
// /proc/PID/stat has, to the nanosecond. A process that has ended is an error.
func CPU(pids ...int) (time.Duration, error) {
	sum := time.Duration(0)
	for _, pid := range pids {
		if pid <= 0 { // 0 would be this process
			return 0, fmt.Errorf("usage: CPU time of process %d: want the id of one that runs", pid)
		}
		var t unix.Timespec
		if err := unix.ClockGettime(cpuClock(pid), &t); err != nil {
			return 0, fmt.Errorf("usage: CPU time of process %d: %w", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}

// cpuClock is clock_getcpuclockid(3): Linux has a clock a process.
func cpuClock(pid int) int32 {
	const sched = 2 // counted by the scheduler, not sampled by ticks
	return int32(^pid<<3 | sched)
}

// RSS returns the memory that processes have resident, in bytes.
func RSS(pids ...int) (int64, error) {
	sum := int64(0)
	for _, pid := range pids {
		n, err := kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// Kernel returns the memory that the kernel has in TCP's buffers and in its
// slabs, where sockets, their files and the entries of epoll are, in bytes. It
// is of the whole machine: what a change of it means, the caller must know.
func Kernel() (int64, error) {
	slab, err := kilobytes("/proc/meminfo", "Slab:")
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, fmt.Errorf("usage: %w", err)
	}
	pages, err := tcpPages(string(text))
	if err != nil {
		return 0, err
	}
	return slab + pages*int64(os.Getpagesize()), nil
}

// tcpPages returns the number behind "mem" in the line of /proc/net/sockstat
// that begins with "TCP:".
func tcpPages(sockstat string) (int64, error) {
	for line := range strings.Lines(sockstat) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == "TCP:" {
			for i := 1; i+1 < len(f); i += 2 {
				if f[i] == "mem" {
					return strconv.ParseInt(f[i+1], 10, 64)
				}
			}
		}
	}
	return 0, fmt.Errorf("usage: /proc/net/sockstat has no mem of TCP")
}

// KernelMax returns how many bytes TCP may use on the machine, beyond which it
// drops packets of any socket: the last of net.ipv4.tcp_mem.
func KernelMax() (int64, error) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_mem")
	if err != nil {
		return 0, fmt.Errorf("usage: %w", err)
	}
	f := strings.Fields(string(text))
	if len(f) != 3 {
		return 0, fmt.Errorf("usage: tcp_mem is %q; want three numbers", text)
	}
	pages, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("usage: tcp_mem: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}

// kilobytes returns the bytes of a line such as "VmRSS:	  123 kB" of a file.
func kilobytes(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("usage: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("usage: %s has no %s", path, name)
}

// A Machine is what all its cores did since it was started, in ticks.
type Machine struct{ busy, all int64 }

// ReadMachine reads what the machine's cores did so far.
func ReadMachine() (Machine, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, fmt.Errorf("usage: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return machineOf(line)
}

// machineOf reads the first line of /proc/stat: user, nice, system, idle,
// iowait, irq, softirq and steal; what guests use is in user already.
func machineOf(line string) (m Machine, err error) {
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return m, fmt.Errorf("usage: /proc/stat begins with %.80q; want cpu and 8 numbers or more", line)
	}
	for i, s := range f[1:9] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return m, fmt.Errorf("usage: /proc/stat: %w", err)
		}
		m.all += n
		if idle := i == 3 || i == 4; !idle {
			m.busy += n
		}
	}
	return m, nil
}

// Busy returns which part of all cores' time was used from one moment to
// another, 0 to 1.
func Busy(from, to Machine) float64 {
	if to.all == from.all {
		return 0
	}
	return float64(to.busy-from.busy) / float64(to.all-from.all)
}
