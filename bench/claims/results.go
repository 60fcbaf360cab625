//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/veltrix/cairn/bench/claims/engine"
	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/bench/report"
)

// The files of results.
const (
	claimsFile = "claims.json"        // the list of figures, of whatever ran last
	detailFile = "claims-detail.json" // all that the short form measured
	fullFile   = "claims-full.json"   // and the full form
)

// fileOf has the parts whose findings others look for in a file of their own.
var fileOf = map[string]string{"endtoend": "end-to-end.json"}

// A record is all that one command measured.
type record struct {
	Machine string                     `json:"machine"`
	Commit  string                     `json:"commit"`
	Command string                     `json:"command"`
	Began   time.Time                  `json:"began"`
	Seconds map[string]float64         `json:"seconds"` // by part
	Parts   map[string]json.RawMessage `json:"parts"`
}

// measure runs the parts, one after the other, and saves after each what there
// is.
func measure(ctx context.Context, full bool, args []string) error {
	name, file := "short", detailFile
	if full {
		name, file = "full", fullFile
	}
	c, err := parse(name, args)
	if err != nil {
		return err
	}
	r := &record{
		Machine: origin.Machine(), Commit: origin.Commit(), Command: command(full, args),
		Began: time.Now().UTC().Truncate(time.Second), Seconds: map[string]float64{}, Parts: map[string]json.RawMessage{},
	}
	found := map[string]finding{}
	for _, p := range parts {
		if only := list(c.only); only != nil && !slices.Contains(only, p.name) {
			continue
		}
		program.Say("%s", p.title)
		start := time.Now()
		f, err := p.run(ctx, full, c)
		if err != nil {
			return err
		}
		found[p.name], r.Seconds[p.name] = f, time.Since(start).Seconds()
		if r.Parts[p.name], err = json.Marshal(f); err != nil {
			return err
		}
		if err := report.Write(c.out, file, r); err != nil {
			return err
		}
		if e, ok := f.(*engine.Report); ok {
			if err := report.Write(c.out, claimsFile, e.Summary()); err != nil {
				return err
			}
		}
		if own := fileOf[p.name]; own != "" {
			if err := report.Write(c.out, own, f); err != nil {
				return err
			}
		}
	}
	fmt.Println()
	for _, p := range parts {
		if f := found[p.name]; f != nil {
			fmt.Printf("## %s\n\n%s\n", p.title, f.Markdown())
		}
	}
	return nil
}

// command returns how make is told to do the same: where things are on this
// machine is no part of it.
func command(full bool, args []string) string {
	target := "bench"
	if full {
		target = "bench-full"
	}
	return origin.Command(target, args, "out", "dir", "profiles")
}

// show puts the tables of the full form into a document, and draws its plots.
func show(args []string) error {
	c, err := parse("report", args)
	if err != nil {
		return err
	}
	r, err := report.Read[record](c.out, fullFile)
	if err != nil {
		return fmt.Errorf("%w; want make bench-full to have been run", err)
	}
	var errs []error
	for _, p := range parts {
		raw, ok := r.Parts[p.name]
		if !ok {
			continue
		}
		f, err := p.read(raw)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", fullFile, p.name, err)
		}
		text := r.head(p.name) + f.Markdown()
		if c.into == "-" {
			fmt.Printf("## %s\n\n%s\n", p.title, text)
		} else {
			errs = append(errs, report.Splice(c.into, "claims-"+p.name, text))
		}
		if f, ok := f.(plotter); ok {
			errs = append(errs, f.Plots(c.plots))
		}
	}
	return errors.Join(errs...)
}

// head says what, where and how, above the tables of a part.
func (r *record) head(part string) string {
	return fmt.Sprintf("%s; commit %s; `%s`; %.0f s of it, %s.\n\n", r.Machine, r.Commit, r.Command, r.Seconds[part], r.Began.Format("2006-01-02"))
}
