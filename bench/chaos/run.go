//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/veltrix/cairn/bench/chaos/gap"
	"github.com/veltrix/cairn/bench/chaos/play"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/lab"
)

const (
	huntName = "chaos"
	tick     = time.Second

	// aftermath is how long a fault is blamed, at least, after it was healed:
	// what comes back takes part again, which may cost something too.
	aftermath = 2 * time.Second
	// heardWithin is how long, after that, all that players see
	// may take to go on before the run takes note that it did not.
	heardWithin = 60 * time.Second
	// settleWithin is how long the ledger may take, when the load is over, to
	// have everything.
	settleWithin = 3 * time.Minute
)

// A run is one fleet, its players and the faults that hit it.
type run struct {
	o     options
	rng   *rand.Rand
	lab   *lab.Lab
	fleet *lab.Fleet
	play  *play.Play
	out   io.Writer // progress, for people

	began    time.Time // of the load
	from, to time.Time // of what counts: from the end of the warm-up to the end of the load
	faults   []*record
	verified []verified
}

// measure runs everything and writes the result. A result that shows a broken
// invariant, or that does not count, is written too, and is an error.
func measure(ctx context.Context, o options) error {
	res, err := execute(ctx, o, os.Stdout)
	if err != nil {
		return err
	}
	res.print(os.Stdout)
	if err := res.write(o.out); err != nil {
		return err
	}
	return res.verdict()
}

// execute runs a fleet, breaks it and says what came of it. All that it
// started has ended when it returns.
func execute(ctx context.Context, o options, out io.Writer) (res *result, err error) {
	l, err := lab.New(lab.Options{Bin: o.bin, Keep: o.keep})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	r := &run{o: o, rng: rand.New(rand.NewPCG(o.seed, 0)), lab: l, out: out}
	if o.keep {
		fmt.Fprintln(out, "all is in", l.Dir)
	}
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	if err := r.underLoad(ctx); err != nil {
		return nil, err
	}
	return r.finish(ctx)
}

func (r *run) start(ctx context.Context) (err error) {
	r.say("a fleet starts: 3+3 Redis, ack %s, seed %d", r.o.ack, r.o.seed)
	limits := []string{"--claim-rate", "1000000", "--claim-burst", "1000000", "--guests"}
	r.fleet, err = r.lab.StartFleet(ctx, lab.Spec{
		Generators: 2, Claims: 3, Gateways: 2, Leaderboards: 2, Rewards: 2,
		Redis:    lab.ClusterOptions{Primaries: 3, Replicas: 1, NodeTimeout: nodeTimeout},
		Postgres: lab.PostgresOptions{Durable: r.o.durable},
		Ack:      r.o.ack, ShardsMax: r.o.shards,
		Hunts: []string{r.hunt()},
		Args:  map[string][]string{"gateway": limits},
	})
	if err != nil {
		return err
	}
	var gateways []string
	for _, g := range r.fleet.Roles("gateway") {
		gateways = append(gateways, "http://"+g.Listen)
	}
	level := slog.LevelInfo
	if r.o.verbose {
		level = slog.LevelDebug
	}
	opts := play.Options{
		Hunt: huntName, Tick: tick, Lifetime: r.o.lifetime, Gateways: func() []string { return gateways },
		Players: r.o.players, Rate: r.o.rate, Crowd: r.o.crowd, Batch: r.o.batch, Again: r.o.again, Seed: r.o.seed,
		Log: slog.New(slog.NewTextHandler(r.out, &slog.HandlerOptions{Level: level})),
	}
	if r.play, err = play.New(ctx, opts); err != nil {
		return err
	}
	return r.play.AwaitMap(ctx)
}

func (r *run) hunt() string {
	return fmt.Sprintf("name: %s\nregion: {geohash: u4}\nmask: none\ntiles_per_map: %d\ntick: %v\nlifetime: %v\nshards: %d\npuzzles: {tap: 1}\nreward: {min: 1, max: 1000, budget: 1000000000000000}\n",
		huntName, r.o.tiles, tick, r.o.lifetime, r.o.shards)
}

// underLoad has players play while faults hit, and returns when all that they
// were told is written down.
func (r *run) underLoad(ctx context.Context) error {
	playing, stop := context.WithCancel(ctx)
	var players sync.WaitGroup
	defer players.Wait()
	defer stop()
	r.began = time.Now()
	players.Go(func() { r.play.Run(playing, ctx) })
	if err := program.Sleep(ctx, r.o.warmUp); err != nil {
		return err
	}
	r.from = time.Now()
	err := r.breakThings(ctx)
	r.to = time.Now()
	if err != nil {
		return err
	}
	c, w, n := r.play.Within(r.from, r.to)
	r.say("the load ends: %.0f claims/s over %d s, p50 %v, p99 %v; players ask for the rest of what they won", float64(c.Won)/float64(max(1, n)), n, round(w.Quantile(0.5)), round(w.Quantile(0.99)))
	stop()
	players.Wait()
	return ctx.Err()
}

// breakThings injects one fault after the other.
func (r *run) breakThings(ctx context.Context) error {
	all := order(r.o.faults, r.o.rounds, r.rng)
	first := time.Now()
	for i, k := range all {
		if err := program.Sleep(ctx, r.o.quiet+rand.N(2*time.Second)); err != nil {
			return err
		}
		if r.o.limit > 0 && time.Since(first) > r.o.limit {
			r.say("time is up after %d of %d faults", i, len(all))
			return nil
		}
		if r.o.live > 0 && i > 0 && i%max(1, len(all)/(r.o.live+1)) == 0 && len(r.verified) < r.o.live {
			if err := r.verify(ctx, "while it runs"); err != nil {
				return err
			}
		}
		if err := r.fault(ctx, k, fmt.Sprintf("%d/%d", i+1, len(all))); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return program.Sleep(ctx, r.o.quiet)
}

// fault injects one fault, waits until players see nothing of it any more and
// takes down what they saw.
func (r *run) fault(ctx context.Context, k kind, n string) error {
	f := &record{Kind: k.name, from: time.Now()}
	err := k.inject(ctx, r, func(whom string) { f.Hit = whom })
	if err != nil {
		return err
	}
	healed := time.Now()
	if err := program.Sleep(ctx, aftermath); err != nil {
		return err
	}
	f.Silent = r.awaitHeard(ctx, time.Now())
	f.to = time.Now()
	if err := ctx.Err(); err != nil {
		return err
	}
	r.measured(f, healed)
	r.faults = append(r.faults, f)
	r.say("%5s  %s", n, f)
	return nil
}

// awaitHeard waits until all that players follow was heard since, and names
// what was not.
func (r *run) awaitHeard(ctx context.Context, since time.Time) (silent []string) {
	for end := time.Now().Add(heardWithin); ; {
		silent = silent[:0]
		for name, tracks := range r.tracks() {
			for i, t := range tracks {
				if !t.Heard(since) {
					silent = append(silent, fmt.Sprintf("%s[%d]", name, i))
				}
			}
		}
		if len(silent) == 0 || time.Now().After(end) || program.Sleep(ctx, 50*time.Millisecond) != nil {
			return silent
		}
	}
}

// tracks are what players follow, by name.
func (r *run) tracks() map[string][]*gap.Track {
	return map[string][]*gap.Track{
		"claims": r.play.Shards[:r.o.shards], "maps": {r.play.Maps}, "standings": {r.play.Standings}, "rewards": {r.play.Rewards},
	}
}

// measured fills in what players saw of a fault.
func (r *run) measured(f *record, healed time.Time) {
	f.At = f.from.Sub(r.began).Seconds()
	f.Broken, f.Window = ms(healed.Sub(f.from)), ms(f.to.Sub(f.from))
	longest := func(name string) float64 { return ms(gap.Longest(r.tracks()[name], f.from, f.to).Length()) }
	f.Claims, f.Maps, f.Standings, f.Rewards = longest("claims"), longest("maps"), longest("standings"), longest("rewards")
	var each []time.Duration
	for _, t := range r.tracks()["claims"] {
		d := t.Longest(f.from, f.to).Length()
		if each = append(each, d); d > shardHit {
			f.Shards++
		}
	}
	f.Median = ms(gap.Median(each))
	var w play.Waits
	f.Counts, w = r.play.Touching(f.from, f.to)
	f.WaitMax, f.WaitP99 = ms(w.Max()), ms(w.Quantile(0.99))
}

// shardHit is the gap from which on a fault is said to have hit a shard.
const shardHit = time.Second

func (r *run) say(format string, args ...any) {
	at := "  0:00"
	if !r.began.IsZero() {
		d := time.Since(r.began)
		at = fmt.Sprintf("%3d:%02d", int(d.Minutes()), int(d.Seconds())%60)
	}
	fmt.Fprintf(r.out, "%s  %s\n", at, fmt.Sprintf(format, args...))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
