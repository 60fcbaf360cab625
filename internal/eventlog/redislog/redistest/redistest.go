// Package redistest runs real Redis servers for tests: on free ports of the
// loopback, with their data in a folder of the test, and ended with it.
package redistest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// patience bounds what must happen, sooner or later.
const patience = 30 * time.Second

// A Server is one redis-server process.
type Server struct {
	Addr string // host:port

	dir  string
	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	c    rueidis.Client
}

// Start starts a server with an append-only file, on a free port, and waits
// until it answers. args are settings, such as "--maxmemory", "10mb".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{dir: t.TempDir(), args: args}
	for range 5 { // another process may take the port first
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
		if s.start(t) {
			t.Cleanup(func() { s.end() })
			return s
		}
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	t.Fatalf("redis-server does not start:\n%s", log)
	return nil
}

// freePort returns a port that is free, and whose Cluster bus port is valid.
func freePort(t testing.TB) int {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if port+10000 < 1<<16 {
			return port
		}
	}
}

// start runs the process and reports whether it answers.
func (s *Server) start(t testing.TB) bool {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("no redis-server: install it (Debian: apt-get install redis-server redis-tools, or scripts/setup.sh redis)")
	}
	_, port, _ := net.SplitHostPort(s.Addr)
	args := append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--logfile", "log", "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--cluster-config-file", "nodes.conf",
	}, s.args...)
	s.cmd = exec.Command(bin, args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	s.done = done
	go func() {
		s.cmd.Wait()
		close(done)
	}()
	for until := time.Now().Add(patience); time.Now().Before(until); {
		select {
		case <-done:
			return false
		case <-time.After(5 * time.Millisecond):
		}
		if s.ping() {
			return true
		}
	}
	s.end()
	return false
}

func (s *Server) ping() bool {
	c, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprint(c, "PING\r\n")
	reply := make([]byte, 5)
	_, err = c.Read(reply)
	return err == nil && bytes.HasPrefix(reply, []byte("+PONG"))
}

// URL returns the server's URL.
func (s *Server) URL() string { return "redis://" + s.Addr }

func (s *Server) end() {
	if s.c != nil {
		s.c.Close()
		s.c = nil
	}
	s.cmd.Process.Kill()
	<-s.done
}

// Kill ends the process at once, as kill -9 does.
func (s *Server) Kill() { s.end() }

// Restart starts the server anew on the data that it left.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if !s.start(t) {
		t.Fatal("redis-server does not start again")
	}
}

// Pause stops the process, connections open, until Continue.
func (s *Server) Pause() { s.cmd.Process.Signal(syscall.SIGSTOP) }

// Continue undoes Pause.
func (s *Server) Continue() { s.cmd.Process.Signal(syscall.SIGCONT) }

// Do sends a command and returns the reply. An error reply fails the test.
func (s *Server) Do(t testing.TB, args ...string) rueidis.RedisResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if s.c == nil {
		c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr}, ForceSingleClient: true, DisableCache: true, PipelineMultiplex: -1})
		if err != nil {
			t.Fatal(err)
		}
		s.c = c
	}
	r := s.c.Do(ctx, s.c.B().Arbitrary(args...).Build())
	if err := r.Error(); err != nil && !rueidis.IsRedisNil(err) {
		t.Fatalf("%s: %v", args[0], err)
	}
	return r
}

// StartCluster starts a Cluster of as many primaries, each with as many
// replicas, and waits until all of it answers.
func StartCluster(t testing.TB, primaries, replicas int, args ...string) []*Server {
	t.Helper()
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Fatal("no redis-cli: install it (Debian: apt-get install redis-tools, or scripts/setup.sh redis)")
	}
	var nodes []*Server
	create := []string{"--cluster", "create"}
	for range primaries * (1 + replicas) {
		s := Start(t, append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000"}, args...)...)
		nodes = append(nodes, s)
		create = append(create, s.Addr)
	}
	create = append(create, "--cluster-replicas", strconv.Itoa(replicas), "--cluster-yes")
	if out, err := exec.Command(cli, create...).CombinedOutput(); err != nil {
		t.Fatalf("redis-cli --cluster create: %v\n%s", err, out)
	}
	for until := time.Now().Add(patience); ; {
		ready := true
		for _, s := range nodes {
			info, _ := s.Do(t, "CLUSTER", "INFO").ToString()
			ready = ready && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(nodes)))
		}
		if ready {
			return nodes
		}
		if time.Now().After(until) {
			t.Fatal("the Cluster does not come up")
		}
		<-time.After(20 * time.Millisecond)
	}
}
