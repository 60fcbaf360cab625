//go:build unix

// Package engine puts the same attempts to the claim service, in process, and
// to its peers: as many as each can take, and then as many a second for all.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"time"

	"github.com/veltrix/cairn/bench/claims/peer"
	"github.com/veltrix/cairn/internal/lab"
)

// Options says what is measured. See [Short] and [Full].
type Options struct {
	Contenders []string // of those that Names returns
	Workloads  []string // of those that Workloads returns
	Rounds     int      // in each of which everything is measured once

	Warm    time.Duration // before figures are taken
	Measure time.Duration // with as many attempts in flight as suit the contender
	Load    time.Duration // at the load that is the same for all

	Idle int // claims, one after the other, on a system that does nothing else; 0 means none

	Sweep         bool // first find with how many attempts in flight each contender is fastest
	Shards        int  // of ours; 0 means 4
	Callers, Size int  // in place of what is known to suit each contender; 0 means that

	Profiles string // a folder that gets a CPU profile of each run flat out; "" means none

	Dir string                           // for what is on disk; "" means the system's for temporary files
	Say func(format string, args ...any) // progress; nil means that nobody hears it
}

// Short returns options for a run of some three minutes.
func Short() Options {
	return Options{
		Contenders: Names(false), Workloads: Workloads(), Rounds: 3,
		Warm: 200 * time.Millisecond, Measure: 600 * time.Millisecond, Load: 600 * time.Millisecond, Idle: 500,
	}
}

// Full returns options for a run of half an hour, of all that there is.
func Full() Options {
	return Options{
		Contenders: Names(true), Workloads: Workloads(), Rounds: 5,
		Warm: 500 * time.Millisecond, Measure: 1500 * time.Millisecond, Load: 3 * time.Second, Idle: 3000, Sweep: true,
	}
}

func (o *Options) check() error {
	if o.Rounds < 1 {
		return fmt.Errorf("%d rounds: want 1 or more", o.Rounds)
	}
	for _, name := range o.Contenders {
		if _, err := contenderOf(name); err != nil {
			return err
		}
	}
	for _, name := range o.Workloads {
		if !slices.Contains(Workloads(), name) {
			return fmt.Errorf("workload %q: want one of %v", name, Workloads())
		}
	}
	if o.Shards == 0 {
		o.Shards = shardsOfOurs
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	return nil
}

// A Result is one contender that took one workload, once.
type Result struct {
	Name     string      `json:"name"`
	Workload string      `json:"workload"`
	Round    int         `json:"round"`
	Callers  int         `json:"callers"`
	Size     int         `json:"batch"`
	Attempts int         `json:"attempts"` // in all
	Wins     int         `json:"wins"`     // of them, each checked against what the system kept
	Flat     throughput  `json:"flat_out"`
	Load     response    `json:"equal_load"`
	Own      bool        `json:"own_load"` // it can't do the load of the others: Load is half of what it can
	Stats    *peer.Stats `json:"retries,omitempty"`
}

// Run measures all contenders in turn, each round beginning with another.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as the command has it
	l, err := lab.New(lab.Options{Parent: o.Dir})
	if err != nil {
		return nil, err
	}
	b := &bench{lab: l, shards: o.Shards, redises: map[string]*lab.Redis{}, clusters: map[string]*lab.Cluster{}, tuned: map[string]Tried{}}
	r, err := b.run(ctx, &o)
	if err = errors.Join(err, l.Close()); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	return r, nil
}

func (b *bench) run(ctx context.Context, o *Options) (*Report, error) {
	r := &Report{Equal: map[string]float64{}, Warm: o.Warm.Seconds(), Measure: o.Measure.Seconds(), Load: o.Load.Seconds()}
	if o.Sweep {
		tried, err := b.sweep(ctx, o)
		if err != nil {
			return nil, err
		}
		r.Tried = tried
	}
	for _, name := range o.Workloads {
		w, err := newWorkload(name, o.attempts(name))
		if err != nil {
			return nil, err
		}
		first, err := b.measure(ctx, o, Lua, w, 0, 0)
		if err != nil {
			return nil, err
		}
		r.Equal[name] = first.Flat.PerSecond / 2
		o.Say("%s: lua takes %.0f attempts/s; equal load is half of it", name, first.Flat.PerSecond)
		for round := range o.Rounds {
			for i := range o.Contenders {
				x, err := b.measure(ctx, o, o.Contenders[(i+round)%len(o.Contenders)], w, r.Equal[name], round+1)
				if err != nil {
					return nil, err
				}
				r.Results = append(r.Results, x)
				o.Say("%s", x)
			}
		}
	}
	if o.Idle > 0 {
		for round := range o.Rounds {
			x, err := b.idle(ctx, o.Idle)
			if err != nil {
				return nil, err
			}
			r.Idle = append(r.Idle, x)
			o.Say("round %d: one claim at idle: p50 %.0f µs; a bare XADD: p50 %.0f µs", round+1, x.Claim.P50, x.XADD.P50)
		}
	}
	return r, nil
}

// attempts returns how long the list of a workload is: those that are fastest
// may come to its end, and are then measured until there.
func (o *Options) attempts(workload string) int {
	perSecond := 5e6
	if workload == Hot { // which is about few tiles
		perSecond = 2e7
	}
	return int(perSecond * (o.Warm + o.Measure).Seconds())
}

// measure has a contender take a workload: first flat out, then at a given load,
// if it is above 0.
func (b *bench) measure(ctx context.Context, o *Options, name string, w *workload, load float64, round int) (x *Result, err error) {
	c, err := contenderOf(name)
	if err != nil {
		return nil, err
	}
	x = &Result{Name: name, Workload: w.name, Round: round, Callers: c.callers, Size: c.size}
	if t, ok := b.tuned[name]; ok {
		x.Callers, x.Size = t.Callers, t.Size
	}
	if o.Callers > 0 {
		x.Callers = o.Callers
	}
	if o.Size > 0 {
		x.Size = o.Size
	}
	flat, total := c.attempts(o, w, load)
	s := newScene(&workload{name: w.name, ops: w.ops[:total]})
	system, err := c.open(ctx, b, s, total)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", w.name, name, err)
	}
	defer func() {
		if err = errors.Join(err, system.close()); err != nil {
			err = fmt.Errorf("%s: %s: %w", w.name, name, err)
		}
	}()
	runtime.GC() // of what was before
	r := &run{system: system, scene: s, marks: make([]mark, total)}
	stop, err := o.profile(fmt.Sprintf("%s-%s-%d.pprof", w.name, name, round))
	if err != nil {
		return nil, err
	}
	x.Flat, err = r.flatOut(ctx, x.Callers, x.Size, flat, o.Warm, o.Measure)
	if err = errors.Join(err, stop()); err != nil {
		return nil, err
	}
	if x.Own = x.Flat.PerSecond < load*1.1; x.Own {
		load = x.Flat.PerSecond / 2
	}
	if load > 0 {
		if x.Load, err = r.offer(ctx, load, arrivalsMax, o.Warm, o.Load); err != nil {
			return nil, err
		}
	}
	x.Attempts = r.next
	if x.Wins, err = check(ctx, system, s, r.marks[:r.next]); err != nil {
		return nil, err
	}
	if stats := system.stats(); stats != (peer.Stats{}) {
		x.Stats = &stats
	}
	return x, nil
}

// profile begins a CPU profile of this process, if any are wanted, and returns
// what ends it.
func (o *Options) profile(name string) (stop func() error, err error) {
	if o.Profiles == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(filepath.Join(o.Profiles, name))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// arrivalsMax is how many arrivals may be in flight at equal load.
const arrivalsMax = 256

// attempts returns how many of a workload's attempts are for flat out, and how
// many there are with those at equal load.
func (c *contender) attempts(o *Options, w *workload, load float64) (flat, total int) {
	atLoad := int(1.2*min(load, c.most)*(o.Warm+o.Load).Seconds()) + 1000
	flat = len(w.ops) - atLoad
	if w.name != Hot { // which is about one map, however long it is
		flat = min(flat, int(c.most*(o.Warm+o.Measure).Seconds()))
	}
	return flat, flat + atLoad
}

// String says what was measured, in a line.
func (x *Result) String() string {
	return fmt.Sprintf("%-8s %-22s round %d: %9.0f attempts/s (p99 %.0f µs); at %.0f/s p50 %.0f µs, p99 %.0f µs; %.0f%% won",
		x.Workload, x.Name, x.Round, x.Flat.PerSecond, x.Flat.P99, x.Load.PerSecond, x.Load.P50, x.Load.P99, 100*float64(x.Wins)/float64(max(1, x.Attempts)))
}
