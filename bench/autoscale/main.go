//go:build unix

// Command autoscale has a surge come to a small fleet of real processes, which a
// loop makes larger and smaller by what production goes by: it reads the
// ScaledObjects of deploy/kubernetes, asks a real Prometheus with the rules of
// ops/prometheus their queries, and decides by the arithmetic of Kubernetes'
// HorizontalPodAutoscaler.
//
//	go run ./bench/autoscale          # four minutes, into docs/autoscaling.md
//	go run ./bench/autoscale -short   # a minute and a half, into bench/out alone
//
// Players claim and watch through one address all the while. It exits with 1 if
// any of them noticed, if the fleet did not grow and shrink, or if `cairn verify`
// finds anything, and with 2 if it was used wrongly. See docs/autoscaling.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/program"
)

// options are the flags.
type options struct {
	short bool

	// The small fleet, and how it differs from production.
	hurry          float64 // times as fast: looks, windows, periods
	size           float64 // of production's attempts a process should have, one part
	connectionsMax int     // of a gateway
	gatewaysMost   int
	claimsMost     int
	sweep          time.Duration
	shards         int

	// The surge.
	few, many   int // clients that watch
	connectRate float64
	rate        float64 // tiles a second before
	times       float64 // as many in the surge
	crowd       int
	codec       string
	before      time.Duration
	hold        time.Duration
	after       time.Duration // once all is small again
	seed        uint64

	objects, rules string
	bin            string
	keep           bool
	out, docs      string
	command        string
}

func main() {
	program.Main("autoscale", func(ctx context.Context, args []string) error {
		o, err := parse(args)
		if err != nil {
			return err
		}
		return measure(ctx, o)
	})
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("autoscale", flag.ContinueOnError)
	f.BoolVar(&o.short, "short", false, "a quick form: of what follows -hurry 40, -before 8s, -hold 20s, -after 4s, and nothing into documents")
	f.Float64Var(&o.hurry, "hurry", 0, "how many times as fast as in production time passes for the autoscaler; 0 means 15")
	f.Float64Var(&o.size, "size", 80, "how many times as few attempts a second as in production a process should have")
	f.IntVar(&o.connectionsMax, "connections-max", 1000, "connections that a gateway takes")
	f.IntVar(&o.gatewaysMost, "gateways-most", 8, "gateways at most")
	f.IntVar(&o.claimsMost, "claims-most", 4, "claims processes at most")
	f.DurationVar(&o.sweep, "sweep", 200*time.Millisecond, "the knob; staleness may be as much more as it is above 50ms")
	f.IntVar(&o.shards, "shards", 24, "shards of the hunt")
	f.IntVar(&o.few, "few", 200, "clients that watch before the surge; as many of those who come with it stay")
	f.IntVar(&o.many, "many", 3000, "clients that watch in the surge")
	f.Float64Var(&o.connectRate, "connect-rate", 300, "clients of the surge that come a second")
	f.Float64Var(&o.rate, "rate", 20, "tiles a second that players race for, before the surge and behind it")
	f.Float64Var(&o.times, "times", 10, "times as many in the surge")
	f.IntVar(&o.crowd, "crowd", 2, "players that race for each tile")
	f.StringVar(&o.codec, "codec", "proto", "what clients that watch speak: json or proto")
	f.DurationVar(&o.before, "before", 0, "how long it is quiet before the surge; 0 means 20s")
	f.DurationVar(&o.hold, "hold", 0, "how long the surge lasts; 0 means 60s")
	f.DurationVar(&o.after, "after", 0, "how long to go on once the fleet is small again; 0 means 10s")
	f.Uint64Var(&o.seed, "seed", 1, "which tiles players race for")
	f.StringVar(&o.objects, "objects", "deploy/kubernetes/base", "folder of the ScaledObjects, scale-ROLE.yaml")
	f.StringVar(&o.rules, "rules", "ops/prometheus", "folder of Prometheus' rules")
	f.StringVar(&o.bin, "bin", "", "the cairn binary; empty means that one is built")
	f.BoolVar(&o.keep, "keep", false, "leave the folder with all data and logs behind")
	f.StringVar(&o.out, "out", "bench/out/autoscale.json", "where to write the result")
	f.StringVar(&o.docs, "docs", "docs", "folder of autoscaling.md and plots; empty means that none is written, as with -short")
	f.SetOutput(os.Stderr)
	if err := program.Parse(f, args); err != nil {
		return o, err
	}
	o.command = origin.Command("autoscale", args, "bin", "out", "docs", "objects", "rules")
	return o.withDefaults(), o.check(f.Args())
}

func (o options) withDefaults() options {
	or := func(d *time.Duration, long, short time.Duration) {
		switch {
		case *d != 0:
		case o.short:
			*d = short
		default:
			*d = long
		}
	}
	or(&o.before, 20*time.Second, 8*time.Second)
	or(&o.hold, time.Minute, 20*time.Second)
	or(&o.after, 10*time.Second, 4*time.Second)
	if o.hurry == 0 {
		o.hurry = 15
		if o.short {
			o.hurry = 40
		}
	}
	if o.short {
		o.docs = ""
	}
	return o
}

// check reports what is wrong.
func (o options) check(rest []string) error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: %s", program.ErrUsage, fmt.Sprintf(format, args...)))
		}
	}
	want(len(rest) == 0, "%q: want flags only", rest)
	want(o.hurry >= 0 && o.size > 0, "-hurry %g, -size %g: want more than 0", o.hurry, o.size)
	want(o.few >= 1 && o.many > 2*o.few && o.connectRate > 0, "-few %d, -many %d, -connect-rate %g: want 1 or more, more than twice as many, and more than 0", o.few, o.many, o.connectRate)
	want(o.connectionsMax >= 4*o.few, "-connections-max: is %d; want four times -few, %d, or more, for one gateway must do before the surge and behind it", o.connectionsMax, o.few)
	want(o.gatewaysMost >= gatewaysWanted && o.claimsMost >= claimsWanted, "-gateways-most %d, -claims-most %d: want %d and %d or more", o.gatewaysMost, o.claimsMost, gatewaysWanted, claimsWanted)
	want(o.rate > 0 && o.times >= 1 && o.crowd >= 1, "-rate %g, -times %g, -crowd %d: want more than 0, 1 or more, and 1 or more", o.rate, o.times, o.crowd)
	want(o.codec == "json" || o.codec == "proto", "-codec: is %q; want json or proto", o.codec)
	want(o.sweep >= 10*time.Millisecond && o.sweep <= 5*time.Second, "-sweep: is %v; want 10ms to 5s", o.sweep)
	want(min(o.before, o.hold, o.after) >= 0, "-before %v, -hold %v, -after %v: want 0 or more", o.before, o.hold, o.after)
	return errors.Join(errs...)
}
