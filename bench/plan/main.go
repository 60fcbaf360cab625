//go:build unix

// Command plan measures a small fleet of real processes, to hold `cairn plan`
// against it: a Redis Cluster, PostgreSQL and all roles, under several loads
// through the public API; what each role used of the processors, what went into
// the logs and out to clients.
//
//	go run ./bench/plan                   # measures, into bench/out/plan.json, and compares
//	go run ./bench/plan -compare          # compares what was measured before
//
//	go run ./bench/plan -surge            # a surge of connections, real and simulated
//	go run ./bench/plan -refresh internal/capacity/coefficients.json
//
// The first loads each show one thing, and are what -refresh takes coefficients
// from; the last one mixes all, is left out there, and is what a plan is judged
// by (docs/capacity.md).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/report"
	"github.com/veltrix/cairn/internal/capacity"
)

type options struct {
	window  time.Duration
	scale   float64
	bin     string
	out     string
	compare bool
	refresh string
	surge   bool
}

func main() {
	var o options
	flag.DurationVar(&o.window, "for", 15*time.Second, "how long each load is measured")
	flag.Float64Var(&o.scale, "scale", 1, "multiplies every rate and count of sockets")
	flag.StringVar(&o.bin, "bin", "", "a cairn binary; without it one is built")
	flag.StringVar(&o.out, "out", "bench/out/plan.json", "where the record is")
	flag.BoolVar(&o.compare, "compare", false, "compare the record that is there, and measure nothing")
	flag.StringVar(&o.refresh, "refresh", "", "put what bench/out has into this file of coefficients, and measure nothing")
	flag.BoolVar(&o.surge, "surge", false, "have many clients come to a gateway at once, and compare with cairn simulate")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "plan:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.window < time.Second || o.scale <= 0 {
		return fmt.Errorf("-for %v, -scale %g: want 1s or more, and above 0", o.window, o.scale)
	}
	if o.refresh != "" {
		changed, err := refresh(o.refresh, filepath.Dir(o.out))
		if err != nil {
			return err
		}
		fmt.Printf("%d coefficients are new: %s\n", len(changed), strings.Join(changed, ", "))
		return keep(o.refresh, o.out, "docs/capacity.md")
	}
	if o.surge {
		return runSurge(ctx, o)
	}
	if !o.compare {
		rec := &capacity.Record{
			Machine: origin.Machine(), Commit: origin.Commit(), Began: time.Now().UTC().Truncate(time.Second),
			Command: strings.TrimSpace("make bench-plan " + args()),
		}
		if err := measure(ctx, o, rec); err != nil {
			return err
		}
		if err := report.Write(filepath.Dir(o.out), filepath.Base(o.out), rec); err != nil {
			return err
		}
	}
	rec, err := report.Read[capacity.Record](filepath.Dir(o.out), filepath.Base(o.out))
	if err != nil {
		return err
	}
	c, err := capacity.Measured()
	if err != nil {
		return err
	}
	return capacity.WriteComparison(os.Stdout, c, rec)
}

func args() string {
	if len(os.Args) < 2 {
		return ""
	}
	return fmt.Sprintf("ARGS=%q", strings.Join(os.Args[1:], " "))
}
