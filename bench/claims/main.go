//go:build unix

// Command claims measures the claim path beside its peers: the claim service
// on each of its logs, and what others build on PostgreSQL and Redis. All are
// given the same attempts, in the same run, in turn.
//
//	go run ./bench/claims short    a short form of all of it: make bench
//	go run ./bench/claims full     every contender and acknowledgement: make bench-full
//	go run ./bench/claims report   the tables of docs/performance.md, and plots, from what full wrote
//
// Results go to bench/out. A Ctrl-C ends all that was started.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/veltrix/cairn/bench/program"
)

func main() { program.Main("claims", run) }

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "short", "full":
			return measure(ctx, args[0] == "full", args[1:])
		case "report":
			return show(args[1:])
		}
	}
	return fmt.Errorf("%w: got %q; want short, full or report", program.ErrUsage, args)
}

// flags are those of all commands.
type flags struct {
	out, dir, only string
	rounds         int
	contenders     string
	profiles       string
	workloads      string
	callers, size  int
	shards         int
	sweep          bool
	into, plots    string
}

func parse(name string, args []string) (*flags, error) {
	c := &flags{}
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.StringVar(&c.out, "out", "", "where results are; empty means bench/out of the repository")
	switch name {
	case "report":
		f.StringVar(&c.into, "into", "", "a document that gets the tables between its marks; empty means docs/performance.md, - that they are printed")
		f.StringVar(&c.plots, "plots", "", "where plots are written; empty means docs/plots of the repository")
	default:
		f.StringVar(&c.only, "only", "", "some of the parts, with commas between: "+strings.Join(partNames(), ", ")+"; empty means all")
		f.IntVar(&c.rounds, "rounds", 0, "how often everything is measured; 0 means as often as the form has it")
		f.StringVar(&c.dir, "dir", "", "where servers keep their data; empty means the system's folder for temporary files")
		f.StringVar(&c.contenders, "contenders", "", "engine: some of them, with commas between; empty means all of the form")
		f.StringVar(&c.workloads, "workloads", "", "engine: some of uniform, zipf, hot; empty means all")
		f.BoolVar(&c.sweep, "sweep", name == "full", "engine: first find what suits each contender")
		f.StringVar(&c.profiles, "profiles", "", "engine: a folder that gets a CPU profile of each run flat out; empty means none")
		f.IntVar(&c.shards, "shards", 0, "engine: shards of ours; 0 means 4")
		f.IntVar(&c.callers, "callers", 0, "engine: callers that put attempts at once; 0 means what suits each contender")
		f.IntVar(&c.size, "batch", 0, "engine: attempts that each of them puts at once; 0 means what suits each contender")
	}
	if err := program.Parse(f, args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%w: %q: want flags only", program.ErrUsage, f.Arg(0))
	}
	if min(c.rounds, c.shards, c.callers, c.size) < 0 {
		return nil, fmt.Errorf("%w: -rounds, -shards, -callers and -batch: want 0 or more", program.ErrUsage)
	}
	for _, name := range list(c.only) {
		if !slices.Contains(partNames(), name) {
			return nil, fmt.Errorf("%w: -only: has %q; want some of %s", program.ErrUsage, name, strings.Join(partNames(), ", "))
		}
	}
	return c, c.places()
}

// places fills in where things go.
func (c *flags) places() error {
	root, err := program.Repository()
	if err != nil {
		return err
	}
	if c.out == "" {
		c.out = filepath.Join(root, "bench", "out")
	}
	if c.into == "" {
		c.into = filepath.Join(root, "docs", "performance.md")
	}
	if c.plots == "" {
		c.plots = filepath.Join(root, "docs", "plots")
	}
	return errors.Join(os.MkdirAll(c.out, 0o755), os.MkdirAll(c.plots, 0o755))
}

// list splits at commas; empty means none.
func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
