package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shakerEnv makes the test's binary the clients of BenchmarkHandshake, which
// are a process of their own so that their CPU time is told apart.
const shakerEnv = "CAIRN_TEST_SHAKER"

func TestMain(m *testing.M) {
	if os.Getenv(shakerEnv) != "" {
		shaker(os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// shaker reads lines "ADDRESS N REQUEST" and opens N connections each, which it
// closes at the next line: whole handshakes, or none if REQUEST is "".
func shaker(in io.Reader, out io.Writer) {
	var addr, request string
	var n int
	for r := bufio.NewReader(in); ; {
		if _, err := fmt.Fscanf(r, "%s %d %q\n", &addr, &n, &request); err != nil {
			return
		}
		conns := make([]net.Conn, n)
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				answer := make([]byte, 4096)
				for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						fmt.Fprintln(out, err)
						os.Exit(1)
					}
					conns[i] = c
					io.WriteString(c, request)
					if got, err := c.Read(answer); err != nil {
						fmt.Fprintln(out, got, err)
						os.Exit(1)
					}
				}
			})
		}
		wg.Wait()
		fmt.Fprintln(out, "open")
		if _, err := r.ReadString('\n'); err != nil {
			return
		}
		for _, c := range conns {
			c.(*net.TCPConn).SetLinger(0) // no port is left behind
			c.Close()
		}
		fmt.Fprintln(out, "closed")
	}
}

// cpu returns the CPU time of this process, the kernel's part included.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHandshake has clients connect and stay, 4,000 at a time, and counts
// the server's CPU time alone:
//
//	accept  the floor: accept4, a byte back, and no more
//	front   handshakes that the front answers, each one's socket in the hub
//	http    the same by net/http
//	refused handshakes that the front refuses
func BenchmarkHandshake(b *testing.B) {
	request := strings.ReplaceAll(fastShakes["a browser's"], "HOST", "a.example")
	for _, way := range []string{"accept", "front", "http", "refused"} {
		b.Run(way, func(b *testing.B) {
			g := newGame(b, func(o *Options) {
				o.Admission.Connect.PerSecond = -1
				if way == "refused" {
					o.Admission.Connect = Rate{1e-9, 1}
				}
			})
			var addr string
			switch way {
			case "accept":
				addr = bareAccept(b)
			case "http":
				addr = g.serveFront(func(ln net.Listener) net.Listener { return ln })
			default:
				addr = g.serveFront(g.server.Front)
			}
			g.server.admission.take(time.Now())
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), shakerEnv+"=1", "GOMAXPROCS=1")
			child.Stderr = os.Stderr
			in, err := child.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			out, err := child.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := child.Start(); err != nil {
				b.Fatal(err)
			}
			defer child.Wait()
			defer in.Close()
			answers := bufio.NewReader(out)
			expect := func(want string) {
				if line, err := answers.ReadString('\n'); strings.TrimSpace(line) != want {
					b.Fatalf("the clients say %q, %v; want %s", line, err, want)
				}
			}
			var used, took time.Duration
			b.ResetTimer()
			for left := b.N; left > 0; left -= 4000 {
				start, was := time.Now(), cpu(b)
				fmt.Fprintf(in, "%s %d %q\n", addr, min(left, 4000), request)
				expect("open")
				used, took = used+cpu(b)-was, took+time.Since(start)
				b.StopTimer()
				fmt.Fprintln(in)
				expect("closed")
				g.eventually("all are gone", func() bool { return g.rooms.Hub.Connections() == 0 })
				b.StartTimer()
			}
			b.ReportMetric(used.Seconds()*1e6/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(b.N)/took.Seconds(), "shakes/s")
		})
	}
}

// bareAccept accepts as a front does, and only that.
func bareAccept(b *testing.B) (addr string) {
	lns, err := Listen(b.Context(), "127.0.0.1:0", ListenOptions{N: 2})
	if err != nil {
		b.Fatal(err)
	}
	var accepting sync.WaitGroup
	b.Cleanup(accepting.Wait) // once the files are closed
	for _, ln := range lns {
		file, err := ln.(*net.TCPListener).File()
		if err != nil {
			b.Fatal(err)
		}
		ln.Close()
		raw, err := file.SyscallConn()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { file.Close() })
		accepting.Go(func() {
			var fds []int
			for {
				fd := -1
				if raw.Read(func(own uintptr) bool {
					fd, _, err = unix.Accept4(int(own), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
					return err != unix.EAGAIN
				}) != nil {
					break
				}
				if fd < 0 {
					continue
				}
				unix.Write(fd, []byte("x"))
				// Those of a batch before are gone by the time that there are so many.
				if fds = append(fds, fd); len(fds) > 6000 {
					for _, fd := range fds[:3000] {
						unix.Close(fd)
					}
					fds = fds[:copy(fds, fds[3000:])]
				}
			}
			for _, fd := range fds {
				unix.Close(fd)
			}
		})
	}
	return lns[0].Addr().String()
}
