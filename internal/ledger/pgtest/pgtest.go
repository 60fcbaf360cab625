//go:build unix

// Package pgtest runs real PostgreSQL servers for tests: on loopback, in a
// folder of their own, with nothing left behind.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// startWithin bounds how long a server may take to answer.
const startWithin = time.Minute

// A Server is a PostgreSQL server with one superuser, cairn, and one database,
// cairn, and no password. Its methods fail the test that calls them.
type Server struct {
	bin, dir string
	port     int
	durable  bool
	as       *syscall.Credential // nil runs it as whoever tests
	schemas  atomic.Int64

	process *os.Process   // nil while it is stopped
	ended   chan struct{} // closed when process has
}

// Start starts a server for one test, which stops it. A durable one syncs to
// disk, as in production; another does so only as far as a killed process
// needs, which is quicker.
func Start(t testing.TB, durable bool) *Server {
	t.Helper()
	s, err := create(durable)
	if err == nil {
		t.Cleanup(s.remove)
		err = s.start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var shared struct {
	mu sync.Mutex
	s  *Server
}

// Shared returns the server that all tests of a package share, and starts it
// if it is the first to ask. TestMain must call StopShared.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.s == nil {
		s, err := create(false)
		if err == nil {
			if err = s.start(); err != nil {
				s.remove()
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		shared.s = s
	}
	return shared.s
}

// StopShared stops the shared server, if there is one.
func StopShared() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.s != nil {
		shared.s.remove()
		shared.s = nil
	}
}

// Addr returns where the server listens.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Schema makes a schema and returns the dsn of it: as good as a database of
// its own, and made in no time.
func (s *Server) Schema(t testing.TB) string {
	t.Helper()
	name := "t" + strconv.FormatInt(s.schemas.Add(1), 10)
	s.Exec(t, "CREATE SCHEMA "+name)
	return s.dsn() + "?search_path=" + name
}

func (s *Server) dsn() string { return "postgres://cairn@" + s.Addr() + "/cairn" }

// Exec executes SQL as the superuser.
func (s *Server) Exec(t testing.TB, sql string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), s.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Kill ends the server and all that it started, as kill -9 does.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	// What it started would end by itself, but may finish a transaction first.
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.process.Pid))
	_ = s.process.Kill()
	for _, c := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(c); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	<-s.ended
	s.process = nil
}

// Start starts a server anew that was killed, on the same port and data.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// debian is where Debian keeps PostgreSQL's programs, off the PATH.
const debian = "/usr/lib/postgresql"

// binaries returns the folder of PostgreSQL's programs: that on the PATH, or
// the newest below dir.
func binaries(dir string) (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, _ := filepath.Glob(filepath.Join(dir, "*", "bin", "initdb"))
	if len(found) == 0 {
		return "", errors.New("this test needs PostgreSQL's server: scripts/setup.sh postgres installs it (Debian: apt-get install postgresql)")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

// create makes the folder of a server.
func create(durable bool) (*Server, error) {
	bin, err := binaries(debian)
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, durable: durable}
	if s.dir, err = os.MkdirTemp("", "cairn-postgres-"); err != nil {
		return nil, err
	}
	if err := s.initdb(); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

func (s *Server) initdb() error {
	if os.Getuid() == 0 { // which PostgreSQL refuses to run as
		if err := s.runAs("postgres"); err != nil {
			return err
		}
	}
	cmd := s.command("initdb", "-D", s.data(), "-U", "cairn", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// runAs makes the server run as a user, and gives them its folder.
func (s *Server) runAs(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("PostgreSQL refuses to run as root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, int(uid), int(gid))
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

// start starts the server and waits until it answers. It keeps its port.
func (s *Server) start() error {
	deadline := time.Now().Add(startWithin)
	for {
		err := s.try(deadline)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		// The port may have been taken, or what a killed server started may
		// not have ended yet.
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *Server) try(deadline time.Time) error {
	if s.port == 0 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s.port = ln.Addr().(*net.TCPAddr).Port
		ln.Close()
	}
	if err := s.launch(); err != nil {
		return err
	}
	for {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		conn, err := pgx.Connect(ctx, "postgres://cairn@"+s.Addr()+"/postgres")
		if err == nil {
			_, err = conn.Exec(ctx, "CREATE DATABASE cairn")
			if err != nil && strings.Contains(err.Error(), "already exists") {
				err = nil
			}
			conn.Close(ctx)
		}
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			s.process = nil
			text, _ := os.ReadFile(s.log())
			return fmt.Errorf("postgres has ended: %s", text)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.Kill()
			return fmt.Errorf("postgres does not answer: %w", err)
		}
	}
}

func (s *Server) log() string { return filepath.Join(s.dir, "log") }

// launch starts the server's process. A goroutine with a thread of its own
// waits for it: on Linux the server ends with the thread that started it, so
// that it does not outlive a test that is killed.
func (s *Server) launch() error {
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	onOff := map[bool]string{true: "on", false: "off"}
	args := []string{"-D", s.data()}
	for _, set := range []string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(s.port), "unix_socket_directories=" + s.dir,
		"fsync=" + onOff[s.durable], "shared_buffers=32MB", "max_connections=200",
	} {
		args = append(args, "-c", set)
	}
	cmd := s.command("postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	endWithParent(cmd.SysProcAttr)
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed, as a rule
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.process, s.ended = cmd.Process, ended
	return nil
}

// remove kills the server and removes its folder.
func (s *Server) remove() {
	s.Kill()
	for deadline := time.Now().Add(startWithin); ; time.Sleep(10 * time.Millisecond) {
		// What it started may still write.
		if err := os.RemoveAll(s.dir); err == nil || errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			return
		}
	}
}
