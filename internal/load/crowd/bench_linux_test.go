package crowd

import (
	"fmt"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// BenchmarkDelivery is what a delivery costs the client in CPU time: the event,
// recv, and what comes of it. The server's writes are not in it.
func BenchmarkDelivery(b *testing.B) {
	for _, d := range []Dialect{JSON(), Plain()} {
		b.Run(d.Name, func(b *testing.B) { benchDelivery(b, d, 4000, false) })
	}
	b.Run("bare", func(b *testing.B) { benchDelivery(b, Plain(), 4000, true) }) // the system calls alone
}

func benchDelivery(b *testing.B, d Dialect, n int, bare bool) {
	f := newFake(b, script{hear: func(c net.Conn, message string) {
		for _, x := range []string{
			`{"type":"welcome","epoch":"e","seq":1,"now":"2026-01-02T15:04:05.000Z"}`,
			`{"type":"snapshot","hunt":"oslo","seq":1,"regions":[""],"maps":[]}`,
		} {
			if message == `{"type":"hello"}` {
				_ = ws.WriteFrame(c, ws.NewTextFrame([]byte(x)))
			}
		}
	}})
	c := open(b, Options{Targets: []string{f.addr}, Dialect: d, Hunt: huntID, Regions: []string{""}})
	c.grow(n)
	l := c.parts.list[0].(*loop)
	raw := make([]uintptr, 0, n)
	f.mu.Lock()
	for _, x := range f.conns {
		rc, err := x.(*net.TCPConn).SyscallConn()
		if err != nil {
			b.Fatal(err)
		}
		_ = rc.Control(func(fd uintptr) { raw = append(raw, fd) })
	}
	f.mu.Unlock()
	seq, spent, deliveries := 1, time.Duration(0), 0
	for b.Loop() {
		seq++
		text := fmt.Sprintf(`{"type":"delta","hunt":"oslo","region":"","from":%d,"seq":%d,"opened":[],"closed":[],"claimed":[{"map":1,"tile":7,"player":"0123456789abcdef0123456789abcdef0123","name":"NNNNNNNNNNNNNNNNNNNNNNNNNNNN","at":"%s"}]}`,
			seq-1, seq, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
		frame := ws.MustCompileFrame(ws.NewTextFrame([]byte(text)))
		// The loop writes and reads by itself, so that nothing else is timed.
		err := l.do(func() {
			for _, fd := range raw {
				if _, _, errno := syscall.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(frame))), uintptr(len(frame))); errno != 0 {
					b.Error(errno)
				}
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			began := threadTime(b)
			k := l.link.(*epollLink)
			for have := l.stats.Deliveries; l.stats.Deliveries < have+int64(n); {
				if !bare {
					k.poll(0)
					continue
				}
				for i := range k.wait(0) {
					fd := l.at(uint32(k.events[i].Fd)).fd
					_, _, _ = syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(k.buf))), uintptr(len(k.buf)), 0, 0, 0)
					l.stats.Deliveries++
				}
			}
			spent += threadTime(b) - began
		})
		if err != nil {
			b.Fatal(err)
		}
		deliveries += n
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(deliveries), "ns/delivery")
}

// threadTime returns the CPU time that this thread has taken.
func threadTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}
