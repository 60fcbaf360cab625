//go:build unix

package main

import (
	"context"
	"encoding/json"

	"github.com/veltrix/cairn/bench/claims/endtoend"
	"github.com/veltrix/cairn/bench/claims/engine"
	"github.com/veltrix/cairn/bench/claims/scaling"
	"github.com/veltrix/cairn/bench/claims/standings"
)

// A finding is what a part measured. It may also draw plots ([plotter]).
type finding interface {
	Markdown() string
}

type plotter interface {
	Plots(dir string) error
}

// A part is one side of the claim path that is measured by itself.
type part struct {
	name  string // also of its marks in docs/performance.md, behind claims-
	title string
	run   func(ctx context.Context, full bool, c *flags) (finding, error)
	read  func(b []byte) (finding, error)
}

var parts = []part{
	{"engine", "In process", runEngine, reads[*engine.Report]},
	{"endtoend", "End to end", runEndToEnd, reads[*endtoend.Report]},
	{"standings", "Leaderboard", runStandings, reads[*standings.Report]},
	{"scaling", "Scaling", runScaling, reads[*scaling.Report]},
}

func partNames() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// reads reads a finding as it is in a file of results.
func reads[F finding](b []byte) (finding, error) {
	var f F
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	return f, nil
}

func runEngine(ctx context.Context, full bool, c *flags) (finding, error) {
	o := engine.Short()
	if full {
		o = engine.Full()
	}
	o.Say, o.Dir, o.Profiles = say, c.dir, c.profiles
	o.Shards, o.Callers, o.Size, o.Sweep = c.shards, c.callers, c.size, c.sweep
	if c.rounds > 0 {
		o.Rounds = c.rounds
	}
	if some := list(c.contenders); some != nil {
		o.Contenders = some
	}
	if some := list(c.workloads); some != nil {
		o.Workloads = some
	}
	return engine.Run(ctx, o)
}

func runEndToEnd(ctx context.Context, full bool, c *flags) (finding, error) {
	o := endtoend.Short()
	if full {
		o = endtoend.Full()
	}
	o.Say, o.Dir = say, c.dir
	if c.rounds > 0 {
		o.Rounds = c.rounds
	}
	return endtoend.Run(ctx, o)
}

func runStandings(ctx context.Context, full bool, c *flags) (finding, error) {
	o := standings.Short()
	if full {
		o = standings.Full()
	}
	o.Say, o.Dir = say, c.dir
	if c.rounds > 0 {
		o.Rounds = c.rounds
	}
	return standings.Run(ctx, o)
}

func runScaling(ctx context.Context, full bool, c *flags) (finding, error) {
	o := scaling.Short()
	if full {
		o = scaling.Full()
	}
	o.Say, o.Dir = say, c.dir
	if c.rounds > 0 {
		o.Rounds = c.rounds
	}
	return scaling.Run(ctx, o)
}
