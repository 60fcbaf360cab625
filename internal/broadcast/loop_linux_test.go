package broadcast

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

func (c handle) inspect() (own int, why string) {
	c.with(func(l *loop, r *record) {
		if st := l.stalls[c.slot]; st != nil {
			own = len(st.own)
		}
		why = endReasons[r.why]
	})
	return own, why
}

// count returns the value of a counter.
func count(b *testing.B, c prometheus.Counter) float64 {
	b.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	fams, err := reg.Gather()
	if err != nil {
		b.Fatal(err)
	}
	return fams[0].GetMetric()[0].GetCounter().GetValue()
}

// readAndDrop reads and drops whatever comes on sockets, until the benchmark
// ends.
func readAndDrop(b *testing.B, fds []int) {
	b.Helper()
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	for _, fd := range fds {
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			b.Fatal(err)
		}
	}
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		events := make([]unix.EpollEvent, 256)
		for !over.Load() {
			n, _ := unix.EpollWait(ep, events, 50)
			for i := range max(0, n) {
				_, _ = unix.Read(int(events[i].Fd), buf)
			}
		}
	}()
	b.Cleanup(func() {
		over.Store(true)
		<-done
		unix.Close(ep)
	})
}

// dialInto connects a client to a hub, and returns its end.
func dialInto(b *testing.B, h *Hub, ln net.Listener, early []byte) (fd int) {
	b.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	if err := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		b.Fatal(err)
	}
	c.Close()
	s, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	h.Serve(s, early, JSON, nil, nil)
	return fd
}

// BenchmarkDeliver delivers a delta of one claim to connections over loopback
// whose other ends are read in this process. us/delivery is the CPU time of the
// goroutines that write, what the kernel does for the receiver included.
func BenchmarkDeliver(b *testing.B) {
	hello := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(`{"type":"hello"}`))))
	watch := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(watchText(false, "")))))
	for _, n := range []int{100, 8000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := newBenchHub(b, 1, 64)
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			if err := x.poll(ctx, &running); err != nil {
				b.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			var clients []int
			for range n {
				clients = append(clients, dialInto(b, x.Hub, ln, append(append([]byte(nil), hello...), watch...)))
			}
			ln.Close()
			readAndDrop(b, clients)
			for count(b, x.metrics.deliveries) < float64(n) { // the snapshots
				time.Sleep(time.Millisecond)
			}
			sent, cpu := count(b, x.metrics.deliveries), count(b, x.metrics.deliveryCPU)
			for b.Loop() {
				x.claim(1)
				x.sweep()
				x.settle(ctx)
			}
			sent, cpu = count(b, x.metrics.deliveries)-sent, count(b, x.metrics.deliveryCPU)-cpu
			b.ReportMetric(cpu*1e6/sent, "us/delivery")
			b.ReportMetric(sent/float64(b.N)/float64(n), "delivered/conn")
			b.StopTimer()
			for _, fd := range clients {
				unix.Close(fd)
			}
			for x.Connections() > 0 {
				time.Sleep(time.Millisecond)
			}
			cancel()
			running.Wait()
		})
	}
}
