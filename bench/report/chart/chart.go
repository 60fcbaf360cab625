// Package chart draws what benchmarks measured, as PNG.
package chart

import (
	"fmt"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// Width and Height are of every chart.
const (
	Width  = 8 * vg.Inch
	Height = 4 * vg.Inch
)

// An Axis is what a chart's values are.
type Axis struct {
	Label string
	Log   bool // logarithmic; then all values are above 0
}

// A Series is one bar of each group, in their order. What is not a number, or
// not above 0 on a logarithmic axis, is left out.
type Series struct {
	Name   string
	Values []float64
}

// Bars draws groups of bars side by side.
func Bars(path, title string, y Axis, groups []string, all ...Series) error {
	p := begin(title, Axis{}, y)
	width := 0.75 * Width / vg.Length(len(groups)*(len(all)+1))
	floor := 0.0
	if y.Log {
		floor = floorOf(all)
	}
	for i, s := range all {
		vs := make(plotter.Values, len(s.Values))
		for j, v := range s.Values {
			if math.IsNaN(v) || y.Log && v <= 0 {
				v = floor
			}
			vs[j] = v
		}
		if len(vs) != len(groups) {
			return fmt.Errorf("chart: %s: %d values of %q; want one a group, %d", path, len(vs), s.Name, len(groups))
		}
		b, err := newBars(vs, width, floor)
		if err != nil {
			return fmt.Errorf("chart: %s: %w", path, err)
		}
		b.LineStyle.Width, b.Color = 0, plotutil.Color(i)
		b.Offset = width * vg.Length(2*i+1-len(all)) / 2
		p.Add(b)
		if len(all) > 1 {
			p.Legend.Add(s.Name, b)
		}
	}
	p.NominalX(groups...)
	p.X.Min, p.X.Max = -0.5, float64(len(groups))-0.5 // whole groups
	p.Y.Min = floor
	p.Y.Max = roomAbove(y, p.Y.Max)
	return save(p, path)
}

// floorOf returns the power of ten that the least value above 0 stands on.
func floorOf(all []Series) float64 {
	least := math.Inf(1)
	for _, s := range all {
		for _, v := range s.Values {
			if v > 0 {
				least = min(least, v)
			}
		}
	}
	if math.IsInf(least, 1) {
		return 1
	}
	return math.Pow(10, math.Floor(math.Log10(least)))
}

// newBars returns bars that stand on the floor rather than on 0, which has no
// place on a logarithmic axis.
func newBars(vs plotter.Values, width vg.Length, floor float64) (*plotter.BarChart, error) {
	ground := make(plotter.Values, len(vs))
	for i := range vs {
		ground[i] = floor
		vs[i] -= floor
	}
	under, err := plotter.NewBarChart(ground, width)
	if err != nil {
		return nil, err
	}
	b, err := plotter.NewBarChart(vs, width)
	if err != nil {
		return nil, err
	}
	b.StackOn(under)
	return b, nil
}

// A Line is points that belong together, X ascending.
type Line struct {
	Name   string
	X, Y   []float64
	Dashed bool // a line without points: a bound, or a fit
}

// Lines draws lines with their points.
func Lines(path, title string, x, y Axis, all ...Line) error {
	p := begin(title, x, y)
	for i, l := range all {
		var at plotter.XYs
		for j := range l.X {
			if x.Log && l.X[j] <= 0 || y.Log && l.Y[j] <= 0 {
				continue
			}
			at = append(at, plotter.XY{X: l.X[j], Y: l.Y[j]})
		}
		if len(at) == 0 {
			continue
		}
		line, points, err := plotter.NewLinePoints(at)
		if err != nil {
			return fmt.Errorf("chart: %s: %w", path, err)
		}
		line.Color, points.Color, points.Shape = plotutil.Color(i), plotutil.Color(i), plotutil.Shape(i)
		if l.Dashed {
			line.Dashes = plotutil.Dashes(1)
			p.Add(line)
			p.Legend.Add(l.Name, line)
			continue
		}
		p.Add(line, points)
		p.Legend.Add(l.Name, line, points)
	}
	if !y.Log {
		p.Y.Min = min(0, p.Y.Min)
	}
	p.Y.Max = roomAbove(y, p.Y.Max)
	return save(p, path)
}

func begin(title string, x, y Axis) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x.Label, y.Label
	p.Legend.Top, p.Legend.Left = true, true
	if x.Log {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	if y.Log {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	grid := plotter.NewGrid()
	if x.Label == "" { // of bars
		grid.Vertical.Width = 0
	}
	p.Add(grid)
	return p
}

// roomAbove returns where an axis ends so that the legend hides nothing.
func roomAbove(y Axis, most float64) float64 {
	if y.Log {
		return most * 10
	}
	return most * 1.3
}

func save(p *plot.Plot, path string) error {
	if err := p.Save(Width, Height, path); err != nil {
		return fmt.Errorf("chart: %s: %w", path, err)
	}
	return nil
}
