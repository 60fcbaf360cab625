//go:build linux

// Command broadcast measures the Broadcast Layer beside its peers: the real
// gateway on a real log in Redis, the centrifuge library, RabbitMQ before a
// naive gateway, and a raw-send server as the floor. All tell the same payloads
// to the same load generator, in the same run, one after the other in turn.
//
//	go run . short    5,000 connections, one delta a second: make bench-broadcast
//	go run . full     10,000 and 19,000 in one process, and how fast each can go
//	go run . huge     300,000 in many processes, storms and slow readers
//	go run . report   the tables of docs/performance.md, and plots, from what the others wrote
//
// Results go to bench/out. A Ctrl-C ends all that was started.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/veltrix/cairn/bench/broadcast/peers"
	"github.com/veltrix/cairn/bench/broadcast/system"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/lab"
	"github.com/veltrix/cairn/internal/load/crowd"
)

// commands are what this program can be told to do.
var commands = []struct {
	name string
	run  func(ctx context.Context, args []string) error
}{
	{"short", short},
	{"full", full},
	{"huge", huge},
	{"report", runReport},
}

func main() { program.Main("broadcast", run) }

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) > 1 && args[0] == "peer":
		return peers.Main(args[1], args[2:], os.Stdout)
	case len(args) == 1 && args[0] == "watch": // a process of the load generator
		return crowd.Work(os.Stdin, os.Stdout)
	}
	var names []string
	for _, c := range commands {
		if len(args) > 0 && args[0] == c.name {
			return c.run(ctx, args[1:])
		}
		names = append(names, c.name)
	}
	return fmt.Errorf("%w: got %q; want %s", program.ErrUsage, args, strings.Join(names, ", "))
}

// common are the flags of all that measures.
type common struct {
	bin    string
	out    string
	rounds int
	only   string
	keep   bool
}

func (c *common) add(f *flag.FlagSet, rounds int) {
	f.StringVar(&c.bin, "bin", "", "the cairn binary; empty means that one is built")
	f.StringVar(&c.out, "out", "", "where results are written; empty means bench/out of the repository")
	f.IntVar(&c.rounds, "rounds", rounds, "how often everything is measured; figures are medians")
	f.StringVar(&c.only, "only", "", "some of the systems, by name and with commas between; empty means all")
	f.BoolVar(&c.keep, "keep", false, "leave the folder with all logs behind")
}

// parse parses the flags of a command, and fills in what was left open.
func (c *common) parse(f *flag.FlagSet, args []string) error {
	if err := program.Parse(f, args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%w: %q: want flags only", program.ErrUsage, f.Arg(0))
	}
	if c.rounds < 1 {
		return fmt.Errorf("%w: -rounds: is %d; want 1 or more", program.ErrUsage, c.rounds)
	}
	if c.out == "" {
		root, err := program.Repository()
		if err != nil {
			return err
		}
		c.out = filepath.Join(root, "bench", "out")
	}
	return os.MkdirAll(c.out, 0o755)
}

// wants reports whether -only names a system, or nothing.
func (c *common) wants(name string) bool {
	if c.only == "" {
		return true
	}
	for n := range strings.SplitSeq(c.only, ",") {
		if n == name {
			return true
		}
	}
	return false
}

// withKit runs f with a kit whose lab ends with it, whatever happens.
func (c *common) withKit(ctx context.Context, f func(*system.Kit) error) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bin := c.bin
	if bin == "" {
		dir, err := os.MkdirTemp("", "cairn-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		program.Say("builds cairn")
		bin = filepath.Join(dir, "cairn")
		if err := build(ctx, bin); err != nil {
			return err
		}
	}
	l, err := lab.New(lab.Options{Bin: bin, Keep: c.keep})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if c.keep {
		fmt.Println("all logs are in", l.Dir)
	}
	return f(&system.Kit{Lab: l, Self: self})
}

// build builds cairn from the main module: this one has its own versions of
// what both depend on.
func build(ctx context.Context, bin string) error {
	root, err := program.Repository()
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-C", root, "-buildvcs=false", "-o", bin, "./cmd/cairn").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}
