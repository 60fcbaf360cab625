//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/broadcast/system"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/bench/report"
)

// full measures all contenders in turn with as many connections as one process
// may have, and how many deltas a second each keeps up with.
func full(ctx context.Context, args []string) error {
	var c common
	var sizes string
	p := plan{rates: []float64{2, 5, 10, 20, 50}}
	f := flag.NewFlagSet("full", flag.ContinueOnError)
	c.add(f, 5)
	f.StringVar(&sizes, "connections", "10000,19000", "connections of each, with commas between")
	f.Float64Var(&p.perSecond, "ramp", 4000, "connections a second as they come")
	f.DurationVar(&p.idle, "idle", 3*time.Second, "how long connections are left alone before their memory is read")
	f.DurationVar(&p.load, "for", 10*time.Second, "how long each rate is published")
	profile := f.Bool("profile", false, "write CPU profiles of ours as well, of one more load that is not measured")
	if err := c.parse(f, args); err != nil {
		return err
	}
	if *profile {
		p.profiles = c.out
	}
	var plans []*plan
	for s := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("%w: -connections: has %q; want numbers above 0", program.ErrUsage, s)
		}
		one := p
		one.connections = n
		plans = append(plans, &one)
	}
	some, err := c.chosen()
	if err != nil {
		return err
	}
	r := newRecord("bench-broadcast-full", args)
	save := func() error { return report.Write(c.out, fullFile, r) }
	if err := c.withKit(ctx, func(k *system.Kit) error { return c.interleave(ctx, k, r, save, some, plans...) }); err != nil {
		return err
	}
	fmt.Println()
	fullTables(os.Stdout, r)
	return plotFull(r, c.out)
}
