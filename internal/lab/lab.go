//go:build unix

// Package lab runs the real parts of a system on one machine: Redis servers
// and Clusters, PostgreSQL, and the roles of cairn, each a process of its own
// on the loopback, with its data in one folder.
//
// It serves `make cluster`, the fault harness and end-to-end tests, and knows
// nothing of the game: it starts processes, says where they listen, breaks them
// (kill -9, SIGSTOP, a failover, a reshard), and leaves nothing behind. A
// process is only ever signalled by the id under which the lab started it.
//
//	l, err := lab.New(lab.Options{})
//	defer l.Close()
//	cluster, err := l.StartCluster(ctx, lab.ClusterOptions{Replicas: 1})
//	cluster.Nodes[0].Kill()
package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// patience bounds each wait for something that must happen sooner or later,
// where the caller's context does not.
const patience = time.Minute

// dirPrefix begins the name of every lab's folder, so that Sweep can tell.
const dirPrefix = "cairn-lab-"

// Options tunes a Lab. The zero value builds cairn from the source around it.
type Options struct {
	Parent     string   // where the lab's folder is made; empty means the system's for temporary files
	Bin        string   // a cairn binary to use; empty means that Build builds one
	BuildFlags []string // more flags of go build, such as -race
	Keep       bool     // Close leaves the folder where it is
}

// A Lab is a folder, and the processes whose data and logs are in it. Its
// methods may be called concurrently.
type Lab struct {
	Dir  string // holds everything; gone after Close
	opts Options

	build sync.Mutex // one go build at a time
	bin   string     // of build

	mu        sync.Mutex
	processes []*Process
	closers   []func() // of clients, called before the processes end
	closed    bool
}

// New makes the folder of a lab.
func New(opts Options) (*Lab, error) {
	dir, err := os.MkdirTemp(opts.Parent, dirPrefix)
	if err != nil {
		return nil, err
	}
	// PostgreSQL may run as another user, who must reach its own folder.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	return &Lab{Dir: dir, opts: opts, bin: opts.Bin}, nil
}

// Close kills every process that still runs, the last started first, waits for
// it, and removes the folder. It may be called more than once.
func (l *Lab) Close() error {
	l.mu.Lock()
	processes, closers := slices.Clone(l.processes), l.closers
	l.closed, l.closers = true, nil
	l.mu.Unlock()
	for _, c := range closers {
		c()
	}
	var errs []error
	for _, p := range slices.Backward(processes) {
		errs = append(errs, p.Kill())
	}
	if l.opts.Keep {
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, remove(l.Dir))...)
}

// remove removes a folder. What a killed server started may write for a moment
// longer.
func remove(dir string) error {
	for until := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := os.RemoveAll(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) || time.Now().After(until) {
			return err
		}
	}
}

// Processes returns every process that was ever started in the lab, in that
// order, those that have ended too.
func (l *Lab) Processes() []*Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.processes)
}

// onClose has Close call f before it ends the processes.
func (l *Lab) onClose(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, f)
}

// Ports are taken below those that the kernel gives to outgoing connections
// (32768 and up on Linux, 49152 elsewhere): a server that is killed gets its
// port back after any time, and a Redis bus port, 10000 above, is below too.
const (
	portFirst = 10_000
	portLast  = 21_999
	busAbove  = 10_000
)

var taken struct {
	sync.Mutex
	ports map[int]bool // given out by this program, so that none is given twice
}

// freePort returns a port of the loopback that nobody listens on, and whose
// bus port nobody does. Another program may take it first: start again then.
func freePort() (int, error) {
	taken.Lock()
	defer taken.Unlock()
	if taken.ports == nil {
		taken.ports = map[int]bool{}
	}
	for range 10_000 {
		port := portFirst + rand.IntN(portLast-portFirst+1)
		if !taken.ports[port] && free(port) && free(port+busAbove) {
			taken.ports[port] = true
			return port, nil
		}
	}
	return 0, fmt.Errorf("lab: no free port from %d to %d on the loopback", portFirst, portLast)
}

// FreeAddress returns an address of the loopback that nobody listens on, and
// that it has not returned before, for a server that is told where to listen. It
// is below the ports that systems give to connections, so that none takes it.
func FreeAddress() (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	return loopback(port), nil
}

func free(port int) bool {
	ln, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	ln.Close()
	return true
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// folder makes a folder of the lab.
func (l *Lab) folder(name string) (string, error) {
	dir := filepath.Join(l.Dir, name)
	return dir, os.MkdirAll(dir, 0o755)
}

// tail returns the last lines of a file, for an error that must say why.
func tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const bytesMax = 64 << 10
	if info, err := f.Stat(); err == nil && info.Size() > bytesMax {
		if _, err := f.Seek(-bytesMax, 2); err != nil {
			return err.Error()
		}
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(f); err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(text.Bytes(), "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
