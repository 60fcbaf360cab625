//go:build unix

package main

import (
	"context"
	"encoding/json"

	"github.com/veltrix/cairn/bench/claims/endtoend"
	"github.com/veltrix/cairn/bench/claims/engine"
	"github.com/veltrix/cairn/bench/claims/scaling"
	"github.com/veltrix/cairn/bench/claims/standings"
	"github.com/veltrix/cairn/bench/program"
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

// shared sets what the options of all parts have.
func (c *flags) shared(sayTo *func(string, ...any), dir *string, rounds *int) {
	*sayTo, *dir = program.Say, c.dir
	if c.rounds > 0 {
		*rounds = c.rounds
	}
}

// form returns the options of the short or the full form of a part.
func form[O any](full bool, short, long func() O) O {
	if full {
		return long()
	}
	return short()
}

func runEngine(ctx context.Context, full bool, c *flags) (finding, error) {
	o := form(full, engine.Short, engine.Full)
	c.shared(&o.Say, &o.Dir, &o.Rounds)
	o.Profiles, o.Shards, o.Callers, o.Size, o.Sweep = c.profiles, c.shards, c.callers, c.size, c.sweep
	if some := list(c.contenders); some != nil {
		o.Contenders = some
	}
	if some := list(c.workloads); some != nil {
		o.Workloads = some
	}
	return engine.Run(ctx, o)
}

func runEndToEnd(ctx context.Context, full bool, c *flags) (finding, error) {
	o := form(full, endtoend.Short, endtoend.Full)
	c.shared(&o.Say, &o.Dir, &o.Rounds)
	return endtoend.Run(ctx, o)
}

func runStandings(ctx context.Context, full bool, c *flags) (finding, error) {
	o := form(full, standings.Short, standings.Full)
	c.shared(&o.Say, &o.Dir, &o.Rounds)
	return standings.Run(ctx, o)
}

func runScaling(ctx context.Context, full bool, c *flags) (finding, error) {
	o := form(full, scaling.Short, scaling.Full)
	c.shared(&o.Say, &o.Dir, &o.Rounds)
	return scaling.Run(ctx, o)
}
