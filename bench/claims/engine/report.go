//go:build unix

package engine

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/veltrix/cairn/bench/report"
	"github.com/veltrix/cairn/bench/report/chart"
)

// A Report is all that was measured.
type Report struct {
	Warm    float64            `json:"warm_up_s"`
	Measure float64            `json:"flat_out_s"`
	Load    float64            `json:"equal_load_s"`
	Equal   map[string]float64 `json:"equal_load_per_s"` // by workload: half of what lua takes
	Tried   []Tried            `json:"sweep,omitempty"`
	Results []*Result          `json:"results"`
	Idle    []*Lone            `json:"idle"`
}

// A Figure is a line of claims.json: medians, and the latencies at equal load,
// or for one that can't do it at half of its own.
type Figure struct {
	Name      string  `json:"name"`
	Workload  string  `json:"workload"`
	PerSecond float64 `json:"attempts_per_s"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	Runs      int     `json:"runs"`
}

// Summary returns the figures of those contenders that are always measured.
func (r *Report) Summary() []Figure {
	var fs []Figure
	for _, w := range Workloads() {
		for _, name := range Names(false) {
			if x := r.of(w, name); x != nil {
				fs = append(fs, Figure{name, w, x.flat.Median, x.p50.Median, x.p99.Median, x.flat.Runs})
			}
		}
	}
	return fs
}

// A row is what came of a contender with a workload.
type row struct {
	*contender
	flat, flatP99, p50, p99 report.Spread
	load                    float64 // at which p50 and p99 were taken
	own                     bool
	won                     float64 // the share of attempts
	callers, size           int
	deadlocks, serial       int64 // in all runs
	retries, attempts       int64
}

// of returns the row of a contender, or nil if it was not measured.
func (r *Report) of(workload, name string) *row {
	var all []*Result
	for _, x := range r.Results {
		if x.Workload == workload && x.Name == name {
			all = append(all, x)
		}
	}
	c, err := contenderOf(name)
	if len(all) == 0 || err != nil {
		return nil
	}
	x := &row{
		contender: c,
		flat:      report.Of(all, func(x *Result) float64 { return x.Flat.PerSecond }),
		flatP99:   report.Of(all, func(x *Result) float64 { return x.Flat.P99 }),
		p50:       report.Of(all, func(x *Result) float64 { return x.Load.P50 }),
		p99:       report.Of(all, func(x *Result) float64 { return x.Load.P99 }),
		load:      report.Median(all, func(x *Result) float64 { return x.Load.Offered }),
		won:       report.Median(all, func(x *Result) float64 { return float64(x.Wins) / float64(max(1, x.Attempts)) }),
		callers:   all[0].Callers, size: all[0].Size,
	}
	own := 0
	for _, a := range all {
		if a.Own {
			own++
		}
		x.attempts += int64(a.Attempts)
		if s := a.Stats; s != nil {
			x.deadlocks, x.serial, x.retries = x.deadlocks+s.Deadlocks, x.serial+s.Serialization, x.retries+s.Retries
		}
	}
	x.own = 2*own > len(all)
	return x
}

// rows returns the rows of a workload, in the order of the contenders.
func (r *Report) rows(workload string) []*row {
	var all []*row
	for _, name := range Names(true) {
		if x := r.of(workload, name); x != nil {
			all = append(all, x)
		}
	}
	return all
}

// Markdown returns the tables.
func (r *Report) Markdown() string {
	var b strings.Builder
	for _, w := range Workloads() {
		if rows := r.rows(w); len(rows) > 0 {
			r.table(&b, w, rows)
		}
	}
	if len(r.Idle) > 0 {
		claims := report.Of(r.Idle, func(x *Lone) float64 { return x.Claim.P50 })
		adds := report.Of(r.Idle, func(x *Lone) float64 { return x.XADD.P50 })
		fmt.Fprintf(&b, "One claim at a time, on one Redis: p50 %s; a bare XADD by the same client library: p50 %s; so %s.\n\n",
			between(claims, "µs"), between(adds, "µs"), report.Times(claims.Median, adds.Median))
	}
	r.conflicts(&b)
	return b.String()
}

var about = map[string]string{
	Uniform: "uniform: any of the open tiles",
	Zipf:    "zipf: some tiles much more than others",
	Hot:     "hot: 10,000 players on one tile, then on the next",
}

func (r *Report) table(b io.Writer, workload string, rows []*row) {
	lua, pg := r.of(workload, Lua), r.of(workload, Postgres)
	fmt.Fprintf(b, "%s; %.0f%% of attempts win. Equal load: %s attempts/s.\n\n", about[workload], 100*rows[0].won, count(r.Equal[workload]))
	report.Table(b, "", "attempts/s", "of lua", "of postgres", "in flight", "p99 then", "p50 at equal load", "p99", "of lua")
	for _, x := range rows {
		ofLua, ofPG, ofLuaP99 := "", "", ""
		if lua != nil {
			ofLua, ofLuaP99 = report.Times(x.flat.Median, lua.flat.Median), report.Times(x.p99.Median, lua.p99.Median)
		}
		if pg != nil {
			ofPG = report.Times(x.flat.Median, pg.flat.Median)
		}
		p50, p99 := micros(x.p50.Median), between(x.p99, "µs")
		if x.own {
			p50, p99, ofLuaP99 = fmt.Sprintf("(%s at %s/s)", p50, count(x.load)), "("+p99+")", ""
		}
		report.Row(b, fmt.Sprintf("`%s`: %s", x.name, x.what), between(x.flat, ""), ofLua, ofPG,
			fmt.Sprintf("%d × %d", x.callers, x.size), micros(x.flatP99.Median), p50, p99, ofLuaP99)
	}
	fmt.Fprintln(b)
}

// conflicts says what PostgreSQL began again.
func (r *Report) conflicts(b io.Writer) {
	head := false
	for _, w := range Workloads() {
		for _, x := range r.rows(w) {
			if x.deadlocks+x.serial == 0 {
				continue
			}
			if !head {
				report.Table(b, "", "workload", "deadlocks", "could not be ordered", "begun again", "of attempts")
				head = true
			}
			report.Row(b, "`"+x.name+"`", w, fmt.Sprint(x.deadlocks), fmt.Sprint(x.serial), fmt.Sprint(x.retries),
				fmt.Sprintf("%.1f%%", 100*float64(x.retries)/float64(max(1, x.attempts))))
		}
	}
	if head {
		fmt.Fprintln(b)
	}
}

// between writes a spread: its median, and in what range it was.
func between(s report.Spread, unit string) string {
	show := count
	if unit == "µs" {
		show, unit = micros, ""
	}
	if s.Runs < 2 {
		return show(s.Median) + unit
	}
	return fmt.Sprintf("%s (%s–%s)", show(s.Median)+unit, show(s.Min), show(s.Max))
}

func count(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.0fk", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%.1fk", v/1e3)
	}
	return fmt.Sprintf("%.0f", v)
}

func micros(v float64) string {
	switch {
	case v >= 1e5:
		return fmt.Sprintf("%.0f ms", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%.1f ms", v/1e3)
	}
	return fmt.Sprintf("%.0f µs", v)
}

// Plots draws attempts a second, and p99 at equal load, as PNG into a folder.
func (r *Report) Plots(dir string) error {
	names := Names(false)
	var rate, p99 []chart.Series
	for _, w := range Workloads() {
		a, b := chart.Series{Name: w}, chart.Series{Name: w}
		for _, name := range names {
			rated, took := 0.0, 0.0
			if x := r.of(w, name); x != nil {
				rated, took = x.flat.Median, x.p99.Median/1000
			}
			a.Values, b.Values = append(a.Values, rated), append(b.Values, took)
		}
		rate, p99 = append(rate, a), append(p99, b)
	}
	if err := chart.Bars(filepath.Join(dir, "claims-rate.png"), "Attempts a second, on one machine, in process", chart.Axis{Label: "attempts/s", Log: true}, names, rate...); err != nil {
		return err
	}
	return chart.Bars(filepath.Join(dir, "claims-p99.png"), "p99 at half of what lua takes (postgres: of what it takes itself)", chart.Axis{Label: "ms", Log: true}, names, p99...)
}
