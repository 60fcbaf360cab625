//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/veltrix/cairn/bench/broadcast/system"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/bench/report"
)

// short measures all contenders in turn, with a few thousand connections each.
func short(ctx context.Context, args []string) error {
	var c common
	p := plan{}
	f := flag.NewFlagSet("short", flag.ContinueOnError)
	c.add(f, 5)
	f.IntVar(&p.connections, "connections", 5000, "connections of each")
	f.Float64Var(&p.perSecond, "ramp", 2500, "connections a second as they come")
	f.DurationVar(&p.idle, "idle", time.Second, "how long connections are left alone before their memory is read")
	f.DurationVar(&p.load, "for", 7*time.Second, "how long one delta a second is published")
	if err := c.parse(f, args); err != nil {
		return err
	}
	some, err := c.chosen(nameOursProto)
	if err != nil {
		return err
	}
	r := newRecord("bench-broadcast", args)
	save := func() error {
		return errors.Join(report.Write(c.out, detailFile, r), report.Write(c.out, shortFile, r.summary()))
	}
	if err := c.withKit(ctx, func(k *system.Kit) error { return c.interleave(ctx, k, r, save, some, &p) }); err != nil {
		return err
	}
	fmt.Println()
	shortTable(os.Stdout, r)
	return nil
}

// interleave measures everything as often as there are rounds, contenders in
// turn, and saves what there is after each round.
func (c *common) interleave(ctx context.Context, k *system.Kit, r *record, save func() error, some []contender, plans ...*plan) error {
	for round := range c.rounds {
		program.Say("round %d of %d", round+1, c.rounds)
		for _, p := range plans {
			for _, x := range turn(some, round) {
				e, err := p.measure(ctx, k, x, round+1)
				if err != nil {
					return err
				}
				r.Runs = append(r.Runs, e)
			}
		}
		r.Rounds, r.Seconds = round+1, time.Since(r.Began).Seconds()
		if err := save(); err != nil {
			return err
		}
	}
	return nil
}

// A figure is a line of broadcast.json.
type figure struct {
	Name        string  `json:"name"`
	Connections int     `json:"connections"`
	PerSecond   float64 `json:"deliveries_per_s"`
	CPUEach     float64 `json:"cpu_us_per_delivery"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	Bytes       float64 `json:"bytes_per_connection"`
	Runs        int     `json:"runs"`
}

// summary returns the figures at one delta a second: of ours at the lowest
// sweep, and of centrifuge the better of its two forms.
func (r *record) summary() []figure {
	best := r.best()
	var fs []figure
	for _, name := range []string{nameOurs, nameCentrifuge, nameRabbitMQ, nameFloor} {
		if x := best[name]; x != nil {
			fs = append(fs, figure{name, x.key.connections, x.PerSecond, x.CPUEach, x.P50, x.P99, x.growth.BytesIdle, x.runs})
		}
	}
	return fs
}

// best returns the row at one delta a second that stands for each name, at the
// largest number of connections: what a peer is best at is its CPU a delivery.
func (r *record) best() map[string]*row {
	best := map[string]*row{}
	for _, x := range r.rows() {
		if x.key.rate != 1 || x.sweepMS > ms(sweepLow) {
			continue
		}
		name := x.name
		if name == nameCentrifugeDelay {
			name = nameCentrifuge
		}
		if b := best[name]; b == nil || x.key.connections > b.key.connections || x.key.connections == b.key.connections && x.CPUEach < b.CPUEach {
			best[name] = x
		}
	}
	return best
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
