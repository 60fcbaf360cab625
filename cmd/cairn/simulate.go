package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/capacity"
	"github.com/veltrix/cairn/internal/capacity/sim"
)

type simulateCmd struct {
	Traffic string `help:"A day's traffic as CSV with the columns minute, connections, events_per_s. Without it: the original's surge of February." placeholder:"FILE"`
	System  string `help:"Whose pods: cairn's gateways as measured, or the original's." enum:"cairn,original" default:"cairn"`
	Compare bool   `help:"Play it on the original, on the original without its limits by each trigger, and on ours, and show them beside each other."`
	Seed    uint64 `help:"What is by chance is by this seed." default:"1"`

	Load   string `help:"What a client watches and a gateway may use: a load as cairn plan --write-load prints it." placeholder:"FILE"`
	Prices string `help:"Prices as YAML or JSON (cairn plan --write-prices)." placeholder:"FILE"`

	Trigger     *string        `help:"What the autoscaler goes by: cpu or lag."`
	TargetCPU   *float64       `name:"target-cpu" help:"Share of the processors that is aimed at."`
	TargetLag   *time.Duration `help:"Lag from which on pods are added."`
	Least       *int           `help:"Pods at least."`
	Most        *int           `help:"Pods at most."`
	Poll        *time.Duration `help:"From one look of the autoscaler to the next."`
	Stabilise   *time.Duration `help:"For how long fewer pods must be enough before some are ended."`
	Start       *time.Duration `help:"From the decision until a pod serves."`
	Drain       *time.Duration `help:"How long a pod takes to end."`
	ConnectRate *float64       `help:"Handshakes that a pod takes a second; 0 is no bound."`
	Burst       *float64       `help:"And at once."`
	MaxClients  *int           `help:"maxclients of Redis."`

	JSON bool   `name:"json" help:"Print JSON."`
	Plot string `help:"Draw the timelines into this file (SVG)." placeholder:"FILE.svg"`
}

func (c simulateCmd) Run(p *program) error {
	if err := checkPlot(c.Plot); err != nil {
		return err
	}
	runs, err := c.runs()
	if err != nil {
		return err
	}
	var names []string
	var results []*sim.Result
	for _, r := range runs {
		result, err := sim.Run(r.config)
		if err != nil {
			return usageError{err}
		}
		names, results = append(names, r.name), append(results, result)
	}
	if err := draw(c.Plot, func(w io.Writer) error { return sim.WriteSVG(w, names, results...) }); err != nil {
		return err
	}
	if c.JSON && !c.Compare {
		return writeJSON(p.stdout, results[0])
	}
	if c.JSON {
		all := map[string]*sim.Result{}
		for i, name := range names {
			all[name] = results[i]
		}
		return writeJSON(p.stdout, all)
	}
	for i, r := range results {
		if c.Compare {
			fmt.Fprintf(p.stdout, "== %s\n", names[i])
		}
		if err := r.WriteText(p.stdout); err != nil {
			return err
		}
		if i+1 < len(results) {
			fmt.Fprintln(p.stdout)
		}
	}
	return nil
}

// A simRun is one simulation and how it is called.
type simRun struct {
	name   string
	config sim.Config
}

// runs returns what is to be played: one system, or with --compare four, so
// that what its limits did to the original is told from what its trigger did.
func (c simulateCmd) runs() ([]simRun, error) {
	if !c.Compare {
		config, err := c.config(c.System)
		return []simRun{{c.System, config}}, err
	}
	original, err := c.config("original")
	if err != nil {
		return nil, err
	}
	ours, err := c.config("cairn")
	if err != nil {
		return nil, err
	}
	byCPU := original.Unbound()
	byLag := byCPU
	byCPU.Policy.Trigger, byLag.Policy.Trigger = sim.TriggerCPU, sim.TriggerLag
	return []simRun{{"original", original}, {"unbound, cpu", byCPU}, {"unbound, lag", byLag}, {"cairn", ours}}, nil
}

// config returns a system with the files and flags over it.
func (c simulateCmd) config(system string) (sim.Config, error) {
	config := sim.Original()
	if system == "cairn" {
		measured, err := capacity.Measured()
		if err != nil {
			return config, err
		}
		load := capacity.DefaultLoad()
		if c.Load != "" {
			if err := readStrict(c.Load, &load); err != nil {
				return config, err
			}
		}
		if err := load.Validate(); err != nil {
			return config, usageError{err}
		}
		config = sim.Cairn(&load, measured, planRules())
	}
	config.Seed = c.Seed
	if c.Prices != "" {
		prices, err := readPrices(c.Prices)
		if err != nil {
			return config, err
		}
		config.Prices = *prices
	}
	if c.Traffic != "" {
		f, err := os.Open(c.Traffic)
		if err != nil {
			return config, usagef("--traffic: %w", err)
		}
		defer f.Close()
		if config.Traffic, err = sim.ReadCSV(f); err != nil {
			return config, usagef("%s: %w", c.Traffic, err)
		}
	}
	p := &config.Policy
	set(&p.Trigger, c.Trigger)
	set(&p.TargetCPU, c.TargetCPU)
	set(&p.TargetLag, (*cairn.Duration)(c.TargetLag))
	set(&p.Least, c.Least)
	set(&p.Most, c.Most)
	set(&p.Poll, (*cairn.Duration)(c.Poll))
	set(&p.Stabilise, (*cairn.Duration)(c.Stabilise))
	set(&p.Start, (*cairn.Duration)(c.Start))
	set(&p.Drain, (*cairn.Duration)(c.Drain))
	set(&config.Pod.ConnectRate, c.ConnectRate)
	set(&config.Pod.ConnectBurst, c.Burst)
	set(&config.Redis.Max, c.MaxClients)
	if err := config.Validate(); err != nil {
		return config, usageError{err}
	}
	return config, nil
}
