//go:build linux

package main

import (
	"maps"
	"slices"
	"time"

	"github.com/veltrix/cairn/bench/broadcast/trial"
	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/report"
)

// A record is all that one command measured.
type record struct {
	Machine string    `json:"machine"`
	Commit  string    `json:"commit"`
	Command string    `json:"command"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Rounds  int       `json:"rounds"` // that are whole
	Runs    []*entry  `json:"runs"`
}

// An entry is one system that was started, watched and published to, once.
type entry struct {
	Name   string        `json:"name"`
	Round  int           `json:"round"`
	Growth *trial.Growth `json:"growth"`
	Loads  []*trial.Load `json:"loads"`
}

func newRecord(target string, args []string) *record {
	return &record{Machine: origin.Machine(), Commit: origin.Commit(), Command: command(target, args), Began: time.Now().UTC().Truncate(time.Second)}
}

// A key tells rows of a table apart: a system at a size and a rate, and at one
// setting of ours.
type key struct {
	name        string
	connections int
	rate        float64
	sweepMS     float64
}

// A row is the medians of what was measured of a key.
type row struct {
	key
	trial.Load
	growth trial.Growth
	runs   int
	kept   int // of them
}

// rows returns the medians of a record, in the order in which keys came first.
func (r *record) rows() []*row {
	var keys []key
	loads, growths := map[key][]*trial.Load{}, map[key][]*trial.Growth{}
	for _, x := range r.Runs {
		for _, l := range x.Loads {
			k := key{x.Name, x.Growth.Connections, l.Rate, l.SweepMS}
			if loads[k] == nil {
				keys = append(keys, k)
			}
			loads[k], growths[k] = append(loads[k], l), append(growths[k], x.Growth)
		}
	}
	var all []*row
	for _, k := range keys {
		all = append(all, medianRow(k, loads[k], growths[k]))
	}
	return all
}

func medianRow(k key, ls []*trial.Load, gs []*trial.Growth) *row {
	x := &row{key: k, runs: len(ls)}
	x.Load.Rate, x.Load.SweepMS, x.Connections = k.rate, k.sweepMS, k.connections
	for _, f := range []struct {
		to *float64
		of func(*trial.Load) float64
	}{
		{&x.PerSecond, func(l *trial.Load) float64 { return l.PerSecond }},
		{&x.Bytes, func(l *trial.Load) float64 { return l.Bytes }},
		{&x.CPUEach, func(l *trial.Load) float64 { return l.CPUEach }},
		{&x.CPUNet, func(l *trial.Load) float64 { return l.CPUNet }},
		{&x.CPUDelta, func(l *trial.Load) float64 { return l.CPUDelta }},
		{&x.CPU, func(l *trial.Load) float64 { return l.CPU }},
		{&x.Beside, func(l *trial.Load) float64 { return l.Beside }},
		{&x.Busy, func(l *trial.Load) float64 { return l.Busy }},
		{&x.Min, func(l *trial.Load) float64 { return l.Min }},
		{&x.P50, func(l *trial.Load) float64 { return l.P50 }},
		{&x.P99, func(l *trial.Load) float64 { return l.P99 }},
		{&x.P999, func(l *trial.Load) float64 { return l.P999 }},
		{&x.Max, func(l *trial.Load) float64 { return l.Max }},
		{&x.BytesLoaded, func(l *trial.Load) float64 { return l.BytesLoaded }},
	} {
		*f.to = report.Median(ls, f.of)
	}
	for _, f := range []struct {
		to *float64
		of func(*trial.Growth) float64
	}{
		{&x.growth.RampSeconds, func(g *trial.Growth) float64 { return g.RampSeconds }},
		{&x.growth.CPUEach, func(g *trial.Growth) float64 { return g.CPUEach }},
		{&x.growth.BytesIdle, func(g *trial.Growth) float64 { return g.BytesIdle }},
		{&x.growth.BytesKernel, func(g *trial.Growth) float64 { return g.BytesKernel }},
		{&x.growth.CPUIdle, func(g *trial.Growth) float64 { return g.CPUIdle }},
	} {
		*f.to = report.Median(gs, f.of)
	}
	for _, l := range ls {
		x.Skips, x.Gaps, x.Lost = x.Skips+l.Skips, x.Gaps+l.Gaps, x.Lost+l.Lost
		if l.Kept {
			x.kept++
		}
	}
	x.Kept = 2*x.kept > x.runs
	return x
}

// command returns how make is told to do the same.
func command(target string, args []string) string { return origin.Command(target, args, "bin", "out") }

func sorted(set map[int]bool) []int { return slices.Sorted(maps.Keys(set)) }
