//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/veltrix/cairn/bench/broadcast/system"
	"github.com/veltrix/cairn/bench/broadcast/trial"
	"github.com/veltrix/cairn/bench/broadcast/usage"
	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/bench/report"
)

// perProcess is how many connections a server process takes where it may have
// 20,000 files.
const perProcess = 18_500

// A hugePlan is what is done with hundreds of thousands of connections.
type hugePlan struct {
	connections int
	servers     int
	perSecond   float64 // connections a second as they come; 0 is as fast as it goes
	idle        time.Duration
	load        time.Duration
	short       time.Duration // at the default sweep
	surgeFor    time.Duration
	stalledFor  time.Duration
	rate        float64 // deltas a second
	surge       int
	stalled     float64
	within      time.Duration // all are back after a cut
	floor       bool
}

// A hugeRecord is what came of it.
type hugeRecord struct {
	Machine string    `json:"machine"`
	Commit  string    `json:"commit"`
	Command string    `json:"command"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Servers int       `json:"servers"`

	Growth    *trial.Growth    `json:"growth"`
	Low       *trial.Load      `json:"sweep_low"`     // one delta a second at the lowest sweep
	Default   *trial.Load      `json:"sweep_default"` // and at the default
	Staleness *trial.Staleness `json:"staleness"`     // by the gateways, during Low
	Surge     *trial.Load      `json:"surge"`
	Surged    int              `json:"surged"` // connections that came at once
	Stalled   *trial.Load      `json:"stalled"`
	Stallers  int              `json:"stallers"` // connections that did not read
	Closes    map[string]int64 `json:"closes"`   // by the gateways until then, by why
	Comeback  *trial.Comeback  `json:"comeback"`

	FloorGrowth *trial.Growth `json:"floor_growth,omitempty"`
	Floor       *trial.Load   `json:"floor,omitempty"`
}

// huge measures ours with more connections than a process may have files, in
// as many gateways as that takes, and the floor in as many processes.
func huge(ctx context.Context, args []string) error {
	var c common
	var p hugePlan
	f := flag.NewFlagSet("huge", flag.ContinueOnError)
	c.add(f, 1)
	f.IntVar(&p.connections, "connections", 300_000, "connections in all")
	f.IntVar(&p.servers, "servers", 0, fmt.Sprintf("server processes; 0 means one for %d connections, and at least 16", perProcess))
	f.Float64Var(&p.perSecond, "ramp", 0, "connections a second as they come; 0 means as fast as it goes")
	f.DurationVar(&p.idle, "idle", 5*time.Second, "how long connections are left alone before their memory is read")
	f.DurationVar(&p.load, "for", 0, "how long deltas are published at the lowest sweep; 0 means 6 of them, and 12s at least")
	f.DurationVar(&p.short, "default-for", 0, "how long they are published at the default sweep; 0 likewise")
	f.DurationVar(&p.surgeFor, "surge-for", 0, "how long they are published around a surge; 0 likewise, and 15s at least")
	f.DurationVar(&p.stalledFor, "stalled-for", 0, "how long they are published while some don't read, who are cut after 10s; 0 likewise, and 24s at least")
	f.Float64Var(&p.rate, "rate", 0, "deltas a second; 0 means 1, or as many as leave the machine half of the time to rest")
	f.IntVar(&p.surge, "surge", 10_000, "connections that come at once; 0 means none")
	f.Float64Var(&p.stalled, "stalled", 0.1, "part of the connections that stop reading; 0 means none")
	f.DurationVar(&p.within, "back-within", 5*time.Minute, "how long it may take until all are back that were cut off")
	f.BoolVar(&p.floor, "floor", true, "measure the floor as well")
	if err := c.parse(f, args); err != nil {
		return err
	}
	for _, d := range []time.Duration{p.load, p.short, p.surgeFor, p.stalledFor} {
		if d < 0 {
			return fmt.Errorf("%w: got a time of %v; want 0 or more", program.ErrUsage, d)
		}
	}
	if p.rate < 0 {
		return fmt.Errorf("%w: -rate: is %g; want 0 or more", program.ErrUsage, p.rate)
	}
	if p.servers == 0 {
		p.servers = max(16, (p.connections+p.surge+perProcess-1)/perProcess)
	}
	if os.Getenv("GOMAXPROCS") == "" { // or each process takes itself for alone: docs/broadcast.md
		if err := os.Setenv("GOMAXPROCS", fmt.Sprint(max(1, runtime.NumCPU()/p.servers))); err != nil {
			return err
		}
	}
	r := &hugeRecord{Machine: origin.Machine(), Commit: origin.Commit(), Command: command("bench-300k", args), Began: time.Now().UTC().Truncate(time.Second), Servers: p.servers}
	err := c.withKit(ctx, func(k *system.Kit) error {
		if p.floor {
			if err := p.floored(ctx, k, r); err != nil {
				return err
			}
		}
		return p.ours(ctx, k, r)
	})
	r.Seconds = time.Since(r.Began).Seconds()
	if r.Low == nil { // there is nothing to write down
		return err
	}
	if werr := report.Write(c.out, hugeFile, r); werr != nil {
		return errors.Join(err, werr)
	}
	fmt.Println()
	hugeTables(os.Stdout, r)
	return errors.Join(err, plotHuge(r, c.out))
}

// deltasMin is how many deltas a measurement has.
const deltasMin = 6

// pace chooses the rate, if that is left to it: one delta a second, or, where
// the slowest of some takes long, so few that the next one finds the machine at
// rest: how one is delivered is measured, not how they pile up. Whatever was
// measured first decides for all.
func (p *hugePlan) pace(ctx context.Context, t *trial.Trial) error {
	if p.rate > 0 {
		return nil
	}
	slowest, err := t.Probe(ctx, 3)
	if err != nil {
		return err
	}
	period := max(time.Second, (2 * slowest).Round(500*time.Millisecond))
	p.rate = 1 / period.Seconds()
	program.Say("%-16s one delta takes %.0f ms: one is published every %v", "rate", slowest.Seconds()*1000, period)
	return nil
}

// lasts returns how long a measurement takes: d, or what is enough.
func (p *hugePlan) lasts(d, least time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return max(least, time.Duration(deltasMin/p.rate*float64(time.Second)))
}

// floored measures the floor.
func (p *hugePlan) floored(ctx context.Context, k *system.Kit, r *hugeRecord) (err error) {
	t, err := trial.Begin(ctx, k, system.Spec{Kind: system.Floor, Servers: p.servers}, trial.Options{Most: p.connections})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.End()) }()
	if r.FloorGrowth, err = t.Grow(ctx, p.connections, p.perSecond, p.idle); err != nil {
		return err
	}
	sayGrowth(nameFloor, r.FloorGrowth)
	if err := p.pace(ctx, t); err != nil {
		return err
	}
	r.Floor, err = p.everyone(ctx, t, nameFloor, p.load)
	return err
}

func (p *hugePlan) ours(ctx context.Context, k *system.Kit, r *hugeRecord) (err error) {
	t, err := trial.Begin(ctx, k, system.Spec{Kind: system.Ours, Servers: p.servers, Sweep: sweepLow}, trial.Options{Stalled: p.stalled, Most: p.connections + p.surge})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.End()) }()
	if r.Growth, err = t.Grow(ctx, p.connections, p.perSecond, p.idle); err != nil {
		return err
	}
	sayGrowth(nameOurs, r.Growth)
	if err := p.pace(ctx, t); err != nil {
		return err
	}
	stale, err := t.WatchStaleness(ctx)
	if err != nil {
		return err
	}
	if r.Low, err = p.everyone(ctx, t, "sweep 5 ms", p.load); err != nil {
		return err
	}
	if r.Staleness, err = stale(ctx); err != nil {
		return err
	}
	program.Say("%-16s p50 ≤ %.0f ms, p99 ≤ %.0f ms, by the gateways", "staleness", r.Staleness.P50, r.Staleness.P99)
	if err := t.System.SetSweep(ctx, sweepDefault); err != nil {
		return err
	}
	if r.Default, err = p.everyone(ctx, t, "sweep 50 ms", p.short); err != nil {
		return err
	}
	return p.storms(ctx, t, r)
}

// storms measures what the healthy see of a surge, of stalled readers and of a
// cut.
func (p *hugePlan) storms(ctx context.Context, t *trial.Trial, r *hugeRecord) (err error) {
	if p.surge > 0 {
		r.Surged = p.surge
		if r.Surge, err = t.Surge(ctx, p.rate, p.lasts(p.surgeFor, 15*time.Second), p.surge); err != nil {
			return err
		}
		sayLoad(fmt.Sprintf("+%d", p.surge), r.Surge)
	}
	if r.Stallers = int(p.stalled * float64(p.connections)); r.Stallers > 0 {
		if err := sayRoom(r.Stallers); err != nil {
			return err
		}
		if r.Stalled, err = t.Stalled(ctx, p.rate, p.lasts(p.stalledFor, 24*time.Second), r.Stallers); err != nil {
			return err
		}
		sayLoad("stalled readers", r.Stalled)
		if r.Closes, err = t.Closes(ctx); err != nil {
			return err
		}
		program.Say("%-16s %v", "closed, by why", r.Closes)
	}
	if r.Comeback, err = t.DropAll(ctx, p.rate, p.within); err != nil {
		return err
	}
	b := r.Comeback
	program.Say("%-16s half back in %.1f s, 99%% in %.1f s, all in %.1f s; %d resumed, %d anew, %d gaps, %d states in the end", "all cut", b.Half, b.Most, b.All, b.Resumed, b.Restarted, b.Gaps, b.States)
	return nil
}

// everyone publishes to everyone.
func (p *hugePlan) everyone(ctx context.Context, t *trial.Trial, what string, d time.Duration) (*trial.Load, error) {
	l, err := t.Load(ctx, p.rate, p.lasts(d, 12*time.Second))
	if err == nil {
		sayLoad(what, l)
	}
	return l, err
}

// sayRoom warns if stalled readers leave TCP no memory: it then drops packets of
// everyone, and that is what would be measured.
func sayRoom(stallers int) error {
	most, err := usage.KernelMax()
	if err != nil {
		return err
	}
	const each = 110 << 10 // both ends: docs/broadcast.md
	if need := int64(stallers) * each; need > most/2 {
		pages := 3 * need / int64(os.Getpagesize())
		program.Say("%-16s %d stalled readers keep up to %d MB, and TCP may have %d MB in all: it will drop packets of everyone. As root: sysctl -w net.ipv4.tcp_mem='%d %d %d'",
			"beware", stallers, need>>20, most>>20, pages/2, pages*3/4, pages)
	}
	return nil
}

func sayGrowth(what string, g *trial.Growth) {
	program.Say("%-16s %d connections in %.1f s, %.1f µs CPU each; %.1f KB idle, %.1f KB in the kernel", what, g.Connections, g.RampSeconds, g.CPUEach, g.BytesIdle/1000, g.BytesKernel/1000)
}

func sayLoad(what string, l *trial.Load) {
	program.Say("%-16s p50 %.0f ms, p99 %.0f ms (of a delta, median: %.0f), p99.9 %.0f ms, max %.0f ms; %.2f µs CPU a delivery; %d skips, %d gaps, %d lost, closes %v", what, l.P50, l.P99, l.P99Median, l.P999, l.Max, l.CPUEach, l.Skips, l.Gaps, l.Lost, l.Closes)
}
