//go:build unix

// Command drills tries what docs/backup.md says: it runs the document's own
// commands against real processes (Redis Cluster, PostgreSQL and every role of
// cairn), destroys what they saved, restores it, in the right order and in
// wrong ones, and has `cairn verify` say what came of it.
//
//	go run ./bench/drills
//	go run ./bench/drills -only wrong-order
//
// It exits with 1 if a drill did not end as the document says, and with 2 if it
// was used wrongly.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/program"
)

// options are the flags.
type options struct {
	only    []string
	rate    float64
	doc     string
	out     string
	docs    bool
	bin     string
	keep    bool
	command string
}

func main() {
	program.Main("drills", func(ctx context.Context, args []string) error {
		o, err := parse(args)
		if err != nil {
			return err
		}
		return run(ctx, o)
	})
}

func parse(args []string) (options, error) {
	var o options
	var only string
	f := flag.NewFlagSet("drills", flag.ContinueOnError)
	f.StringVar(&only, "only", "", "which drills, by name and with commas between; of "+strings.Join(names(), ",")+"; empty means all, and only then the table goes into the document")
	f.Float64Var(&o.rate, "rate", 150, "tiles a second that players race for")
	f.StringVar(&o.doc, "doc", "docs/backup.md", "the document whose commands are tried")
	f.BoolVar(&o.docs, "write", true, "put the table into the document")
	f.StringVar(&o.out, "out", "bench/out", "folder to write drills.json into")
	f.StringVar(&o.bin, "bin", "", "the cairn binary; empty means that one is built")
	f.BoolVar(&o.keep, "keep", false, "leave the folder with all data and logs behind")
	f.SetOutput(os.Stderr)
	if err := program.Parse(f, args); err != nil {
		return o, err
	}
	o.only = names()
	if only != "" {
		o.only, o.docs = strings.Split(only, ","), false
	}
	for _, name := range o.only {
		if !slices.Contains(names(), name) {
			return o, fmt.Errorf("%w: -only: there is no %q; want some of %s", program.ErrUsage, name, strings.Join(names(), ","))
		}
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("%w: %q: want flags only", program.ErrUsage, f.Arg(0))
	case o.rate <= 0:
		return o, fmt.Errorf("%w: -rate: is %v; want more than 0", program.ErrUsage, o.rate)
	}
	o.command = origin.Command("drills", args, "out", "doc", "write", "bin", "keep")
	return o, nil
}
