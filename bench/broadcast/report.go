//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/veltrix/cairn/bench/broadcast/trial"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/bench/report"
)

// The files of results.
const (
	shortFile  = "broadcast.json"
	detailFile = "broadcast-detail.json"
	fullFile   = "broadcast-full.json"
	hugeFile   = "broadcast-300k.json"
)

// runReport prints the tables of whatever was measured, as Markdown, or puts them
// into a document, and draws the plots.
func runReport(_ context.Context, args []string) error {
	var c common
	var plots, into string
	f := flag.NewFlagSet("report", flag.ContinueOnError)
	f.StringVar(&c.out, "out", "", "where results are; empty means bench/out of the repository")
	f.StringVar(&plots, "plots", "", "where plots are written; empty means docs/plots of the repository")
	f.StringVar(&into, "into", "", "a document that gets the tables between its marks, such as ../../docs/performance.md; empty means that they are printed")
	c.rounds = 1
	if err := c.parse(f, args); err != nil {
		return err
	}
	if plots == "" {
		root, err := program.Repository()
		if err != nil {
			return err
		}
		plots = filepath.Join(root, "docs", "plots")
	}
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	put := func(_, text string) error {
		_, err := fmt.Print(text)
		return err
	}
	if into != "" {
		put = func(name, text string) error { return report.Splice(into, name, text) }
	}
	return errors.Join(
		reportOf(c.out, detailFile, put, func(w io.Writer, r *record) error { shortTable(w, r); return nil }),
		reportOf(c.out, fullFile, put, func(w io.Writer, r *record) error { fullTables(w, r); return plotFull(r, plots) }),
		reportOf(c.out, hugeFile, put, func(w io.Writer, r *hugeRecord) error { hugeTables(w, r); return plotHuge(r, plots) }),
	)
}

// reportOf reads a file of results, if it is there, and puts what f writes of
// it where it belongs.
func reportOf[T any](dir, name string, put func(name, text string) error, f func(io.Writer, *T) error) error {
	r, err := report.Read[T](dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Printf("(no %s)\n\n", name)
		return nil
	}
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := f(&b, r); err != nil {
		return err
	}
	return put(strings.TrimSuffix(name, ".json"), b.String())
}

// head says what, where and how, above a table.
func (r *record) head(w io.Writer) {
	fmt.Fprintf(w, "%s; commit %s; `%s`; medians of %d; %.0f s, %s.\n\n", r.Machine, r.Commit, r.Command, r.Rounds, r.Seconds, r.Began.Format("2006-01-02"))
}

// shortTable writes the tables of one delta a second, with ratios to the floor
// and to the best peer.
func shortTable(w io.Writer, r *record) {
	r.head(w)
	rows := r.rows()
	for _, n := range sizes(rows) {
		oneASecond(w, rows, n)
	}
}

// fullTables writes those, and how fast each went.
func fullTables(w io.Writer, r *record) {
	shortTable(w, r)
	rows := r.rows()
	for _, n := range sizes(rows) {
		rates(w, rows, n)
	}
}

func sizes(rows []*row) []int {
	set := map[int]bool{}
	for _, x := range rows {
		set[x.key.connections] = true
	}
	return sorted(set)
}

func oneASecond(w io.Writer, rows []*row, n int) {
	fmt.Fprintf(w, "%d connections, one delta a second:\n\n", n)
	report.Table(w, "", "CPU a delivery", "of the floor", "of the best peer", "less idle", "p50", "p99", "of the floor", "memory, idle", "of the best peer", "after load", "kernel", "CPU, idle")
	ref := references(rows, n)
	for _, x := range rows {
		if x.key.rate != 1 || x.key.connections != n {
			continue
		}
		report.Row(w, x.title(), us(x.CPUEach), times(x.CPUEach, ref.floorCPU), times(x.CPUEach, ref.peerCPU), us(x.CPUNet),
			fmt.Sprintf("%.0f ms", x.P50), fmt.Sprintf("%.0f ms", x.P99), times(x.P99, ref.floorP99),
			kb(x.growth.BytesIdle), times(x.growth.BytesIdle, ref.peerBytes), kb(x.BytesLoaded), kb(x.growth.BytesKernel),
			fmt.Sprintf("%.1f%%", 100*x.growth.CPUIdle))
	}
	fmt.Fprintln(w)
}

// rates writes the p99 of each system at each rate, and how much CPU a delta
// then cost; what did not keep up is in parentheses.
func rates(w io.Writer, rows []*row, n int) {
	set := map[int]bool{}
	var names []string
	at := map[string]map[int]*row{}
	for _, x := range rows {
		if x.key.connections != n || x.key.rate == 1 && x.sweepMS == ms(sweepLow) {
			continue // higher rates are measured at the default sweep
		}
		if at[x.name] == nil {
			at[x.name] = map[int]*row{}
			names = append(names, x.name)
		}
		at[x.name][int(x.key.rate)] = x
		set[int(x.key.rate)] = true
	}
	fmt.Fprintf(w, "%d connections, p99 and CPU a delta at higher rates (those in parentheses do not keep up):\n\n", n)
	columns := []string{"", "keeps up with"}
	for _, rate := range sorted(set) {
		columns = append(columns, fmt.Sprintf("%d/s", rate))
	}
	report.Table(w, columns...)
	for _, name := range names {
		most, line := 0, []string{}
		for _, rate := range sorted(set) {
			x := at[name][rate]
			switch {
			case x == nil:
				line = append(line, "")
			case !x.Kept:
				line = append(line, fmt.Sprintf("(%.0f ms)", x.P99))
			default:
				most = rate
				line = append(line, fmt.Sprintf("%.0f ms, %s", x.P99, us(x.CPUDelta)))
			}
		}
		report.Row(w, append([]string{name, fmt.Sprintf("%d/s", most)}, line...)...)
	}
	fmt.Fprintln(w)
}

// A reference is what rows are compared with.
type reference struct{ floorCPU, floorP99, peerCPU, peerBytes float64 }

func references(rows []*row, n int) (r reference) {
	least := func(to *float64, v float64) {
		if *to == 0 || v < *to {
			*to = v
		}
	}
	for _, x := range rows {
		if x.key.rate != 1 || x.key.connections != n {
			continue
		}
		switch x.name {
		case nameFloor:
			r.floorCPU, r.floorP99 = x.CPUEach, x.P99
		case nameCentrifuge, nameCentrifugeDelay, nameRabbitMQ:
			least(&r.peerCPU, x.CPUEach)
			least(&r.peerBytes, x.growth.BytesIdle)
		}
	}
	return r
}

// title is how a table names a row.
func (x *row) title() string {
	if x.sweepMS > 0 {
		return fmt.Sprintf("%s, sweep %g ms", x.name, x.sweepMS)
	}
	return x.name
}

// hugeTables writes what came of hundreds of thousands of connections.
func hugeTables(w io.Writer, r *hugeRecord) {
	fmt.Fprintf(w, "%s; commit %s; `%s`; %d server processes; %.0f s, %s.\n\n", r.Machine, r.Commit, r.Command, r.Servers, r.Seconds, r.Began.Format("2006-01-02"))
	report.Table(w, "", "connections", "ramp", "CPU each", "memory each", "kernel, both ends")
	for _, g := range []struct {
		name string
		*trial.Growth
	}{{"ours", r.Growth}, {"floor", r.FloorGrowth}} {
		if g.Growth != nil {
			report.Row(w, g.name, fmt.Sprint(g.Connections), fmt.Sprintf("%.1f s", g.RampSeconds), us(g.CPUEach), kb(g.BytesIdle), kb(g.BytesKernel))
		}
	}
	fmt.Fprintln(w)
	report.Table(w, everySo(r.Low.Rate), "p50", "p99", "p99 of a delta, median", "p99.9", "of the floor's p99", "of the p99 before", "CPU a delivery", "of the floor", "less idle", "skips", "gaps", "cut")
	var floor, before trial.Load
	if r.Floor != nil {
		floor = *r.Floor
	}
	for _, l := range r.loads() {
		report.Row(w, l.name, fmt.Sprintf("%.0f ms", l.P50), fmt.Sprintf("%.0f ms", l.P99), fmt.Sprintf("%.0f ms", l.P99Median), fmt.Sprintf("%.0f ms", l.P999), times(l.P99, floor.P99), times(l.P99, before.P99),
			us(l.CPUEach), times(l.CPUEach, floor.CPUEach), us(l.CPUNet), fmt.Sprint(l.Skips), fmt.Sprint(l.Gaps), fmt.Sprint(l.Lost))
		if l.Load == r.Default {
			before = *l.Load
		}
	}
	fmt.Fprintln(w)
	if s := r.Staleness; s != nil {
		fmt.Fprintf(w, "Staleness by the gateways' `/metrics`, at a sweep of 5 ms: p50 ≤ %.0f ms, p99 ≤ %.0f ms, p99.9 ≤ %.0f ms (bounds of buckets).\n\n", s.P50, s.P99, s.P999)
	}
	if r.Stalled != nil {
		fmt.Fprintf(w, "Of the %d that did not read, whose buffers were full from the start, %d were closed as too slow.\n\n", r.Stallers, r.Closes["too_slow"])
	}
	if b := r.Comeback; b != nil {
		fmt.Fprintf(w, "All %d cut at once: half were back and knew what they watch after %.1f s, 99%% after %.1f s, all after %.1f s; %d were told what they missed, %d began anew, %d handshakes were refused for a moment; %d gaps, and in the end all knew the same: %v.\n\n",
			b.Connections, b.Half, b.Most, b.All, b.Resumed, b.Restarted, b.Refused, b.Gaps, b.States == 1)
	}
}

// everySo names a rate.
func everySo(rate float64) string {
	switch {
	case rate == 1:
		return "one delta a second to everyone"
	case rate > 1:
		return fmt.Sprintf("%g deltas a second to everyone", rate)
	}
	return fmt.Sprintf("a delta every %.3g s to everyone", 1/rate)
}

func times(v, of float64) string {
	if of == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f×", v/of)
}

func kb(bytes float64) string { return fmt.Sprintf("%.1f KB", bytes/1000) }

func us(v float64) string { return fmt.Sprintf("%.2f µs", v) }

// A namedLoad is a load as tables and plots name it.
type namedLoad struct {
	name string
	*trial.Load
}

// loads returns the loads that were measured. One in which nothing was delivered
// says nothing: no delta fell into its time.
func (r *hugeRecord) loads() []namedLoad {
	var some []namedLoad
	for _, l := range []namedLoad{
		{"floor", r.Floor},
		{"ours, sweep 5 ms", r.Low},
		{"ours, sweep 50 ms", r.Default},
		{fmt.Sprintf("%d connect at once", r.Surged), r.Surge},
		{fmt.Sprintf("%d don't read", r.Stallers), r.Stalled},
	} {
		if l.Load != nil && l.P99 > 0 {
			some = append(some, l)
		}
	}
	return some
}
