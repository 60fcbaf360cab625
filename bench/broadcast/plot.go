//go:build linux

package main

import (
	"fmt"
	"image/color"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// plotSize is of every plot.
const (
	plotWidth  = 8 * vg.Inch
	plotHeight = 4 * vg.Inch
)

// plotFull draws, for each number of connections, memory and CPU of each system
// at one delta a second, and p99 against the rate.
func plotFull(r *record, dir string) error {
	rows := r.rows()
	for _, n := range sizes(rows) {
		var one []*row
		for _, x := range rows {
			if x.key.connections == n && x.key.rate == 1 {
				one = append(one, x)
			}
		}
		at := func(what string) string { return filepath.Join(dir, fmt.Sprintf("broadcast-%s-%d.png", what, n)) }
		if err := bars(at("memory"), fmt.Sprintf("Memory a connection, %d connections in one process", n), "KB", one, []series{
			{"resident, idle", func(x *row) float64 { return x.growth.BytesIdle / 1000 }},
			{"resident, after load", func(x *row) float64 { return x.BytesLoaded / 1000 }},
			{"kernel, both ends", func(x *row) float64 { return max(0, x.growth.BytesKernel/1000) }},
		}); err != nil {
			return err
		}
		if err := bars(at("cpu"), fmt.Sprintf("Server CPU a delivery, %d connections, one delta a second", n), "µs", one, []series{
			{"all", func(x *row) float64 { return x.CPUEach }},
			{"less what it uses idle", func(x *row) float64 { return max(0, x.CPUNet) }},
		}); err != nil {
			return err
		}
		if err := plotRates(at("rates"), rows, n); err != nil {
			return err
		}
	}
	return nil
}

// A series is one bar of each group.
type series struct {
	name string
	of   func(*row) float64
}

// bars draws a group of bars a row.
func bars(path, title, unit string, rows []*row, all []series) error {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text, p.Y.Min = title, unit, 0
	p.Legend.Top = true
	var names []string
	for _, x := range rows {
		names = append(names, strings.ReplaceAll(x.title(), ", ", ",\n"))
	}
	width := 0.75 * plotWidth / vg.Length(len(rows)*(len(all)+1))
	for i, s := range all {
		var vs plotter.Values
		for _, x := range rows {
			vs = append(vs, s.of(x))
		}
		b, err := plotter.NewBarChart(vs, width)
		if err != nil {
			return err
		}
		b.LineStyle.Width, b.Color = 0, plotutil.Color(i)
		b.Offset = width * vg.Length(2*i+1-len(all)) / 2
		p.Add(b)
		p.Legend.Add(s.name, b)
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5 // whole groups
	p.Y.Max *= 1.25                                  // room for the legend
	return p.Save(plotWidth, plotHeight, path)
}

// plotRates draws p99 against the rate, both logarithmic, up to the first rate
// that a system did not keep up with.
func plotRates(path string, rows []*row, n int) error {
	lines := map[string]plotter.XYs{}
	var names []string
	for _, x := range rows {
		if x.key.connections != n || x.key.rate == 1 && x.sweepMS == ms(sweepLow) || x.P99 <= 0 {
			continue
		}
		if lines[x.name] == nil {
			names = append(names, x.name)
		}
		lines[x.name] = append(lines[x.name], plotter.XY{X: x.key.rate, Y: x.P99})
	}
	if len(names) == 0 {
		return nil
	}
	p := logPlot(fmt.Sprintf("p99 from publishing to the client, %d connections in one process", n), "deltas a second", "ms")
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, rateTicks{}
	for i, name := range names {
		l, points, err := plotter.NewLinePoints(lines[name])
		if err != nil {
			return err
		}
		l.Color, points.Color, points.Shape = plotutil.Color(i), plotutil.Color(i), plotutil.Shape(i)
		p.Add(l, points)
		p.Legend.Add(name, l, points)
	}
	limit := plotter.NewFunction(func(float64) float64 { return 1000 })
	limit.Color, limit.Dashes = color.Gray{128}, plotutil.Dashes(1)
	p.Add(limit)
	p.Legend.Add("limit", limit)
	p.Y.Max = max(p.Y.Max, 10_000) // room for the legend
	return p.Save(plotWidth, plotHeight, path)
}

func logPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	return p
}

// rateTicks are the rates that are measured.
type rateTicks struct{}

// Ticks implements plot.Ticker.
func (rateTicks) Ticks(least, most float64) []plot.Tick {
	var ts []plot.Tick
	for _, v := range []float64{1, 2, 5, 10, 20, 50, 100} {
		if v >= least && v <= most {
			ts = append(ts, plot.Tick{Value: v, Label: fmt.Sprint(v)})
		}
	}
	return ts
}

// plotHuge draws the quantiles of each load.
func plotHuge(r *hugeRecord, dir string) error {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%d connections, clients on the same machine: %s", r.Low.Connections, everySo(r.Low.Rate))
	p.Y.Label.Text, p.Y.Min = "ms", 0
	p.Legend.Top, p.Legend.Left = true, true
	var names []string
	var p50, p99, p999 plotter.Values
	for _, l := range r.loads() {
		names = append(names, l.name)
		p50, p99, p999 = append(p50, l.P50), append(p99, l.P99), append(p999, l.P999)
	}
	width := 0.75 * plotWidth / vg.Length(len(names)*4)
	for i, vs := range []plotter.Values{p50, p99, p999} {
		b, err := plotter.NewBarChart(vs, width)
		if err != nil {
			return err
		}
		b.LineStyle.Width, b.Color, b.Offset = 0, plotutil.Color(i), width*vg.Length(i-1)
		p.Add(b)
		p.Legend.Add([]string{"p50", "p99", "p99.9"}[i], b)
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5 // whole groups
	p.Y.Max *= 1.25                                  // room for the legend
	return p.Save(plotWidth, plotHeight, filepath.Join(dir, "broadcast-300k.png"))
}
