package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/goccy/go-yaml"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/capacity"
)

type planCmd struct {
	Preset string `help:"Loads that are known: default, or original, the fleet that this system's first makers ran, beside ours." enum:"default,original" default:"default"`
	Load   string `help:"A load as YAML or JSON; the flags below override it. --write-load prints one with every field." placeholder:"FILE"`
	Prices string `help:"Prices as YAML or JSON; --write-prices prints those that are used without it." placeholder:"FILE"`

	Players     *int           `help:"Players at once."`
	Connections *int           `help:"WebSockets at once."`
	Attempts    *float64       `help:"Attempts a second, all players together."`
	Wins        *float64       `help:"Share of the attempts that win, 0 to 1."`
	Over        *string        `help:"How attempts come: socket, a frame of a WebSocket each, or http, a request each."`
	Hunts       *int           `help:"Hunts that are live at once."`
	TilesPerMap *int           `help:"Tiles of a map."`
	Lifetime    *time.Duration `help:"How long a map is open."`
	Regions     *int           `help:"Regions over which a hunt's tiles are spread."`
	InView      *int           `help:"Regions that a client watches."`
	Standings   *bool          `help:"Clients watch standings." negatable:""`
	Sweep       *time.Duration `help:"The knob sweep."`
	Codec       *string        `help:"What clients speak: json or proto."`
	Shards      *int           `help:"Shards; 0 is as many as it takes."`
	Retention   *time.Duration `help:"How long logs are kept."`
	Ack         *string        `help:"When an append counts: primary, replicas or fsync."`
	Replicas    *int           `help:"Replicas of each Redis primary."`
	Headroom    *float64       `help:"Share of every limit that stays free, 0 to 0.95."`
	Mean        *float64       `help:"A month's mean load as a share of this one."`

	JSON         bool   `name:"json" help:"Print JSON."`
	Plot         string `help:"Draw cost and limits into this file (SVG)." placeholder:"FILE.svg"`
	Coefficients bool   `help:"Print what is reckoned with, and where each figure is from."`
	WriteLoad    bool   `help:"Print the load as YAML."`
	WritePrices  bool   `help:"Print the prices as YAML."`
}

// planRules are those that processes keep themselves to (budget.go, edge.go).
func planRules() capacity.Rules {
	return capacity.Rules{
		Clients:     func(processes, shards int) int { return budgetOf(processes, shards+otherWriters) },
		ClientsFree: headroom / 100.0,
		Sockets:     connectionsOf,
		ShardsMax:   shardsMax,
	}
}

func (c planCmd) Run(p *program) error {
	if err := checkPlot(c.Plot); err != nil {
		return err
	}
	measured, err := capacity.Measured()
	if err != nil {
		return err
	}
	load, err := c.load()
	if err != nil {
		return err
	}
	prices, err := readPrices(c.Prices)
	if err != nil {
		return err
	}
	switch {
	case c.Coefficients:
		return writeCoefficients(p.stdout, measured, c.JSON)
	case c.WriteLoad:
		return writeYAML(p.stdout, load)
	case c.WritePrices:
		return writeYAML(p.stdout, prices)
	}
	plan, err := capacity.New(*load, *prices, measured, planRules())
	if err != nil {
		return usageError{err}
	}
	if err := draw(c.Plot, plan.WriteSVG); err != nil {
		return err
	}
	original := capacity.Published().At(float64(load.Connections), load.Attempts)
	if c.JSON {
		return writeJSON(p.stdout, c.beside(plan, original))
	}
	if err := plan.WriteText(p.stdout); err != nil || c.Preset != "original" {
		return err
	}
	fmt.Fprintln(p.stdout)
	return plan.WriteBeside(p.stdout, original)
}

// beside returns what --json prints.
func (c planCmd) beside(plan *capacity.Plan, original capacity.Original) any {
	if c.Preset != "original" {
		return plan
	}
	return struct {
		*capacity.Plan
		Original capacity.Original `json:"original"`
	}{plan, original}
}

// load returns the preset, with the file's fields and then the flags over it.
func (c planCmd) load() (*capacity.Load, error) {
	l := capacity.DefaultLoad()
	if c.Preset == "original" {
		l = capacity.OriginalLoad()
	}
	if c.Load != "" {
		if err := readStrict(c.Load, &l); err != nil {
			return nil, err
		}
	}
	set(&l.Players, c.Players)
	set(&l.Connections, c.Connections)
	set(&l.Attempts, c.Attempts)
	set(&l.Wins, c.Wins)
	set(&l.Over, c.Over)
	set(&l.Hunts, c.Hunts)
	set(&l.Tiles, c.TilesPerMap)
	set(&l.Lifetime, (*cairn.Duration)(c.Lifetime))
	set(&l.Regions, c.Regions)
	set(&l.InView, c.InView)
	set(&l.Standings, c.Standings)
	set(&l.Sweep, (*cairn.Duration)(c.Sweep))
	set(&l.Codec, c.Codec)
	set(&l.Shards, c.Shards)
	set(&l.Retention, (*cairn.Duration)(c.Retention))
	set(&l.Ack, c.Ack)
	set(&l.Replicas, c.Replicas)
	set(&l.Headroom, c.Headroom)
	set(&l.Mean, c.Mean)
	if err := l.Validate(); err != nil {
		return nil, usageError{err}
	}
	return &l, nil
}

func set[T any](to, flag *T) {
	if flag != nil {
		*to = *flag
	}
}

func readPrices(path string) (*capacity.Prices, error) {
	p := capacity.DefaultPrices()
	if path == "" {
		return &p, nil
	}
	p.Origin = path
	if err := readStrict(path, &p); err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, usagef("%s: %w", path, err)
	}
	return &p, nil
}

// readStrict reads a YAML or JSON file over what v holds already. Its errors
// name file, line and field.
func readStrict(path string, v any) error {
	data, err := readSmall(path)
	if err != nil {
		return usageError{err}
	}
	j, err := yaml.YAMLToJSON(data)
	if err != nil {
		return usagef("%s: %s", path, yaml.FormatError(err, false, true))
	}
	if err := jsonv2.Unmarshal(j, v, jsonv2.RejectUnknownMembers(true)); err != nil {
		return usagef("%s: %w", path, blame(data, err))
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func writeYAML(w io.Writer, v any) error {
	j, err := json.Marshal(v)
	if err != nil {
		return err
	}
	y, err := yaml.JSONToYAML(j)
	if err != nil {
		return err
	}
	_, err = w.Write(y)
	return err
}

// checkPlot refuses what --plot can't draw before anything is worked out.
func checkPlot(path string) error {
	if path != "" && !strings.EqualFold(filepath.Ext(path), ".svg") {
		return usagef("--plot: %s: want a file whose name ends in .svg", path)
	}
	return nil
}

// draw writes a picture into a file, unless there is no path.
func draw(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return usagef("--plot: %w", err)
	}
	return errors.Join(write(f), f.Close())
}

// writeCoefficients prints what a plan reckons with.
func writeCoefficients(w io.Writer, c *capacity.Coefficients, asJSON bool) error {
	if asJSON {
		return writeJSON(w, c.Origins)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, o := range c.Origins {
		fmt.Fprintf(tw, "%s\t%g %s\t%s\n\t\t  %s; commit %s; %s\n", o.Name, o.Value, o.Unit, o.What, o.Machine, o.Commit, o.Command)
	}
	return tw.Flush()
}
