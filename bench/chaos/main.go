//go:build unix

// Command chaos breaks a whole fleet under load and counts what players see of
// it: a Redis Cluster of three primaries and their replicas, PostgreSQL, and
// all roles of cairn, each a process of its own, under a steady load through
// the public API. Faults come one after the other, in an order that a seed
// gives; each is healed before the next.
//
//	go run ./bench/chaos -rounds 5
//	go run ./bench/chaos -ack primary -faults kill-primary,stop-primary -rounds 3
//
// What players were told is checked by porcupine, and against the ledger at
// the end; the logs and the ledger by `cairn verify`. It exits with 1 if an
// invariant is broken, or if the load was below its minimum, and with 2 if it
// was used wrongly. See docs/reliability.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/program"
)

// options are the flags.
type options struct {
	seed   uint64
	rounds int
	rate   float64
	least  float64
	ack    string
	faults []string
	limit  time.Duration

	crowd, batch, players int
	again                 float64
	tiles, shards         int
	lifetime              time.Duration
	quiet                 time.Duration // between faults, at least
	warmUp                time.Duration // before the first fault, and before anything counts
	live                  int           // times that verify runs while the game does
	durable               bool
	bin                   string
	keep                  bool
	verbose               bool
	out                   string
}

func main() {
	program.Main("chaos", func(ctx context.Context, args []string) error {
		o, err := parse(args)
		if err != nil {
			return err
		}
		return measure(ctx, o)
	})
}

func parse(args []string) (options, error) {
	var o options
	var faults string
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.Uint64Var(&o.seed, "seed", 0, "gives the order of faults and whom they hit; 0 means the clock's")
	f.IntVar(&o.rounds, "rounds", 5, "how many of each fault")
	f.StringVar(&faults, "faults", "", "which faults, by name and with commas between; of "+strings.Join(kindNames(), ",")+"; empty means all but the last")
	f.DurationVar(&o.limit, "for", 0, "no fault begins later than this after the first; 0 means no limit")
	f.Float64Var(&o.rate, "rate", 2200, "tiles a second that players race for")
	f.Float64Var(&o.least, "least", 2000, "claims a second, won and acknowledged outside faults, below which a run does not count")
	f.StringVar(&o.ack, "ack", "replicas", "when an append counts: auto, primary, replicas or fsync")
	f.IntVar(&o.crowd, "crowd", 2, "players that race for each tile")
	f.IntVar(&o.batch, "batch", 8, "tiles in one array of attempts")
	f.IntVar(&o.players, "players", 64, "players")
	f.Float64Var(&o.again, "again", 1, "share of winners who ask again for what they won")
	f.IntVar(&o.tiles, "tiles", 0, "tiles a map; 0 means a third more than the rate needs, so that there is something to race for while no map comes")
	f.IntVar(&o.shards, "shards", 24, "shards of the hunt")
	f.DurationVar(&o.lifetime, "lifetime", 30*time.Second, "how long a map is open")
	f.DurationVar(&o.quiet, "quiet", 6*time.Second, "least time from one fault's end to the next's begin")
	f.DurationVar(&o.warmUp, "warm-up", 30*time.Second, "how long players play before anything counts")
	f.IntVar(&o.live, "live", 2, "how many times cairn verify runs while the game does")
	f.BoolVar(&o.durable, "durable", false, "have PostgreSQL sync to disk")
	f.StringVar(&o.bin, "bin", "", "the cairn binary; empty means that one is built")
	f.BoolVar(&o.keep, "keep", false, "leave the folder with all data and logs behind")
	f.BoolVar(&o.verbose, "v", false, "say which tries got no answer")
	f.StringVar(&o.out, "out", "bench/out/chaos.json", "where to write the result")
	f.SetOutput(os.Stderr)
	if err := program.Parse(f, args); err != nil {
		return o, err
	}
	return o, o.check(f.Args(), faults)
}

// check fills in what was left open and reports what is wrong.
func (o *options) check(rest []string, faults string) error {
	o.faults = usualNames()
	if faults != "" {
		o.faults = strings.Split(faults, ",")
	}
	for _, name := range o.faults {
		if !slices.Contains(kindNames(), name) {
			return fmt.Errorf("%w: -faults: there is no %q; want some of %s", program.ErrUsage, name, strings.Join(kindNames(), ","))
		}
	}
	if o.tiles == 0 {
		o.tiles = int(o.rate*4/3) + 50
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%w: %q: want flags only", program.ErrUsage, rest[0])
	case o.rounds < 1:
		return fmt.Errorf("%w: -rounds: is %d; want 1 or more", program.ErrUsage, o.rounds)
	case o.rate <= 0 || o.least > o.rate:
		return fmt.Errorf("%w: -rate: is %v; want more than -least, %v", program.ErrUsage, o.rate, o.least)
	case o.crowd < 1 || o.crowd > o.players:
		return fmt.Errorf("%w: -crowd: is %d; want 1 to all %d players", program.ErrUsage, o.crowd, o.players)
	case o.batch < 1 || o.batch > 256:
		return fmt.Errorf("%w: -batch: is %d; want 1 to 256", program.ErrUsage, o.batch)
	case !slices.Contains([]string{"auto", "primary", "replicas", "fsync"}, o.ack):
		return fmt.Errorf("%w: -ack: is %q; want auto, primary, replicas or fsync", program.ErrUsage, o.ack)
	}
	return nil
}
