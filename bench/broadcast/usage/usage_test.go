//go:build linux

package usage

import (
	"net"
	"os"
	"testing"
)

func TestTCPPages(t *testing.T) {
	got, err := tcpPages("sockets: used 12\nTCP: inuse 5 orphan 0 tw 3 alloc 7 mem 41\nUDP: inuse 1 mem 9\n")
	if err != nil || got != 41 {
		t.Errorf("got %d, %v; want 41", got, err)
	}
	if _, err := tcpPages("sockets: used 12\n"); err == nil {
		t.Error("a sockstat without TCP is taken")
	}
}

// TestKernelMax: what TCP may use is more than what it uses.
func TestKernelMax(t *testing.T) {
	most, err := KernelMax()
	if err != nil || most < 1<<20 {
		t.Errorf("got %d bytes, %v; want a megabyte or more", most, err)
	}
}

// TestSelf: what is read of a real process is of that process.
func TestSelf(t *testing.T) {
	me := os.Getpid()
	before, err := CPU(me)
	if err != nil {
		t.Fatal(err)
	}
	for now := before; now == before; { // until work shows
		if now, err = CPU(me); err != nil {
			t.Fatal(err)
		}
	}
	small, err := RSS(me)
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 64<<20)
	for i := range big {
		big[i] = 1
	}
	if large, err := RSS(me); err != nil || large < small+32<<20 {
		t.Errorf("64 MiB more: resident went from %d to %d, %v", small, large, err)
	}
	if _, err := CPU(-1); err == nil {
		t.Error("there is no process -1, and it has a CPU time")
	}
}

func TestKernel(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if n, err := Kernel(); err != nil || n <= 0 {
		t.Errorf("got %d, %v; want more than 0", n, err)
	}
}

func TestMachine(t *testing.T) {
	from, err := machineOf("cpu  100 0 50 800 50 0 0 0 0 0")
	if err != nil {
		t.Fatal(err)
	}
	to, err := machineOf("cpu  130 0 60 850 60 0 0 0 30 0")
	if err != nil || Busy(from, to) != 0.4 {
		t.Errorf("got %v busy, %v; want 0.4", Busy(from, to), err)
	}
	if Busy(from, from) != 0 {
		t.Error("no time has passed, and it was busy")
	}
	if _, err := ReadMachine(); err != nil {
		t.Error(err)
	}
}
