//go:build unix

package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/report/chart"
)

// linesMax is how many lines a picture has at most: the largest.
const linesMax = 6

// lines returns what the queries of a panel answered, over seconds since begin.
func (w *world) lines(ctx context.Context, p panel, begin, end time.Time, step, window time.Duration) ([]chart.Line, error) {
	var all []chart.Line
	for _, q := range p.Targets {
		answer, err := w.prom.QueryRange(ctx, q.expr(window), begin, end, step)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.Expr, err)
		}
		for _, s := range answer {
			l := chart.Line{Name: legend(q.LegendFormat, s.Metric)}
			for _, at := range s.Points {
				if math.IsNaN(at.Value) || math.IsInf(at.Value, 0) {
					continue
				}
				l.X = append(l.X, at.At.Sub(begin).Seconds())
				l.Y = append(l.Y, at.Value)
			}
			if len(l.X) > 0 {
				all = append(all, l)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b chart.Line) int { return cmp.Compare(slices.Max(b.Y), slices.Max(a.Y)) })
	return all[:min(len(all), linesMax)], nil
}

var inBraces = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// legend fills in a legend as Grafana does.
func legend(format string, labels map[string]string) string {
	return strings.TrimSpace(inBraces.ReplaceAllStringFunc(format, func(m string) string {
		return labels[inBraces.FindStringSubmatch(m)[1]]
	}))
}

// units are what Grafana's names of units mean, and by what a value is
// multiplied to be in it.
var units = map[string]struct {
	name  string
	times float64
}{
	"s": {"ms", 1000}, "ops": {"a second", 1}, "Bps": {"KB a second", 1e-3}, "bytes": {"MB", 1e-6}, "percentunit": {"%", 100}, "short": {"", 1},
}

// draw draws a panel.
func draw(path string, p panel, lines []chart.Line, where string) error {
	u, ok := units[p.FieldConfig.Defaults.Unit]
	if !ok {
		return fmt.Errorf("panel %s: unit %q is not known here", p.Title, p.FieldConfig.Defaults.Unit)
	}
	for i := range lines {
		for j := range lines[i].Y {
			lines[i].Y[j] *= u.times
		}
		lines[i].Dashed = lines[i].Name == "objective"
	}
	return chart.Lines(path, p.Title, chart.Axis{Label: "seconds (" + where + ")"}, chart.Axis{Label: u.name}, lines...)
}
