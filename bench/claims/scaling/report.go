//go:build unix

package scaling

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/veltrix/cairn/bench/report"
	"github.com/veltrix/cairn/bench/report/chart"
)

// A Report is all that was measured.
type Report struct {
	Contenders  int `json:"contenders"`
	Callers     int `json:"callers"`
	Batch       int `json:"batch"`
	MapsAlways  int `json:"maps_while_shards_grow"`
	ShardsFix   int `json:"shards_while_maps_grow"`
	RecoverEach int `json:"claims_a_record_to_recover"`

	Rates      []*Rate     `json:"rates"`
	TileHeap   []Point     `json:"heap_by_tiles"`
	ClaimHeap  []Point     `json:"heap_by_claims"` // with all tiles there
	Logs       []*Growth   `json:"logs"`
	Recoveries []*Recovery `json:"recoveries"`
}

// A curve is what came of one size after the other, on one log.
type curve struct {
	log   string
	sizes []int
	of    map[int][]*Rate
}

// curveOf returns the rates of a log that are of a scaled size: size says which
// it is, or 0 for what is of another curve.
func (r *Report) curveOf(log string, size func(*Rate) int) curve {
	c := curve{log: log, of: map[int][]*Rate{}}
	for _, m := range r.Rates {
		n := size(m)
		if m.Log != log || n == 0 {
			continue
		}
		if c.of[n] == nil {
			c.sizes = append(c.sizes, n)
		}
		c.of[n] = append(c.of[n], m)
	}
	slices.Sort(c.sizes)
	return c
}

func perSecond(m *Rate) float64 { return m.PerSecond }
func p99(m *Rate) float64       { return m.P99 }

// byShards and byMaps say which curve a rate is of. One that is of both, with
// the usual shards and the usual maps, counts in both.
func (r *Report) byShards(m *Rate) int {
	if m.Maps != r.MapsAlways {
		return 0
	}
	return m.Shards
}

func (r *Report) byMaps(m *Rate) int {
	if m.Shards != r.ShardsFix {
		return 0
	}
	return m.Maps
}

// cost fits what an attempt costs, in microseconds of the machine, to the sizes.
func (c curve) cost() Fit {
	var ps []Point
	for _, n := range c.sizes {
		if v := report.Median(c.of[n], perSecond); v > 0 {
			ps = append(ps, Point{float64(n), 1e6 / v})
		}
	}
	return FitOf(ps)
}

// line says what a fit is.
func (f Fit) line(format, unit, x string) string {
	return fmt.Sprintf(format+" "+unit+" + "+format+" "+unit+" a "+x+", R² %.3f", f.Intercept, f.Slope, f.R2)
}

// Markdown returns the tables.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d attempts on each tile, one of which wins; %d callers with %d attempts each in flight. Medians, in parentheses the least and the most.\n\n", r.Contenders, r.Callers, r.Batch)
	fmt.Fprintf(&b, "With %d live maps:\n\n", r.MapsAlways)
	r.rates(&b, "shards", r.byShards)
	fmt.Fprintf(&b, "With %d shards and as many tiles together:\n\n", r.ShardsFix)
	r.rates(&b, "live maps", r.byMaps)
	b.WriteString("What grows with what:\n\n")
	report.Table(&b, "", "line", "from", "to")
	for _, log := range backends {
		for _, x := range []struct {
			of   string
			size func(*Rate) int
		}{{"shard", r.byShards}, {"live map", r.byMaps}} {
			if c := r.curveOf(log, x.size); len(c.sizes) > 0 {
				report.Row(&b, "an attempt, "+log, c.cost().line("%.4f", "µs", x.of), fmt.Sprint(c.sizes[0]), fmt.Sprint(c.sizes[len(c.sizes)-1]))
			}
		}
	}
	rowOf := func(what, format, unit, x string, ps []Point) {
		if len(ps) > 0 {
			report.Row(&b, what, FitOf(ps).line(format, unit, x), fmt.Sprintf("%.0f", ps[0].X), fmt.Sprintf("%.0f", ps[len(ps)-1].X))
		}
	}
	rowOf("the engine's heap", "%.1f", "B", "tile", r.TileHeap)
	rowOf("the engine's heap, claims alone", "%.1f", "B", "claim", r.ClaimHeap)
	for _, g := range r.Logs {
		rowOf(fmt.Sprintf("a log on %s, %.1f claims a record", g.Log, g.ClaimsARecord), "%.1f", "B", "claim", g.Bytes)
	}
	for _, log := range backends {
		rowOf("taking over a shard, "+log, "%.3f", "ms", "1,000 claims", thousands(r.replays(log)))
	}
	b.WriteString("\n")
	r.takeovers(&b)
	return b.String()
}

func thousands(ps []Point) []Point {
	out := slices.Clone(ps)
	for i := range out {
		out[i] = Point{out[i].X / 1000, out[i].Y * 1000}
	}
	return out
}

// rates writes the table of a curve on each log.
func (r *Report) rates(b *strings.Builder, what string, size func(*Rate) int) {
	curves := make([]curve, len(backends))
	columns := []string{what}
	for i, log := range backends {
		curves[i] = r.curveOf(log, size)
		columns = append(columns, log+", attempts/s", "p99, ms")
	}
	report.Table(b, columns...)
	for _, n := range curves[0].sizes {
		cells := []string{fmt.Sprint(n)}
		for _, c := range curves {
			s := report.Of(c.of[n], perSecond)
			cells = append(cells, fmt.Sprintf("%.0f (%.0f–%.0f)", s.Median, s.Min, s.Max), fmt.Sprintf("%.2f", report.Median(c.of[n], p99)))
		}
		report.Row(b, cells...)
	}
	b.WriteString("\n")
}

// replays returns the medians of what recoveries took, in seconds, by claims.
func (r *Report) replays(log string) []Point {
	of := map[int][]*Recovery{}
	var sizes []int
	for _, x := range r.Recoveries {
		if x.Log != log {
			continue
		}
		if of[x.Claims] == nil {
			sizes = append(sizes, x.Claims)
		}
		of[x.Claims] = append(of[x.Claims], x)
	}
	var ps []Point
	for _, n := range sizes {
		ps = append(ps, Point{float64(n), report.Median(of[n], func(x *Recovery) float64 { return x.Replay })})
	}
	return ps
}

func (r *Report) takeovers(b *strings.Builder) {
	columns := []string{"claims in the log"}
	replays := make([][]Point, len(backends))
	for i, log := range backends {
		columns = append(columns, log+", ms")
		replays[i] = r.replays(log)
	}
	fmt.Fprintf(b, "Taking over one shard, by a process that has not stood by, its maps included; %d claims a record:\n\n", r.RecoverEach)
	report.Table(b, columns...)
	for i, p := range replays[0] {
		cells := []string{fmt.Sprintf("%.0f", p.X)}
		for _, ps := range replays {
			cells = append(cells, fmt.Sprintf("%.1f", 1000*ps[i].Y))
		}
		report.Row(b, cells...)
	}
	b.WriteString("\n")
}

// Plots draws the curves into a folder, and returns the files' names.
func (r *Report) Plots(dir string) error {
	for _, x := range []struct {
		file, title, axis string
		size              func(*Rate) int
	}{
		{"claims-scaling-shards.png", fmt.Sprintf("Attempts against shards, %d live maps", r.MapsAlways), "shards", r.byShards},
		{"claims-scaling-maps.png", fmt.Sprintf("Attempts against live maps, %d shards", r.ShardsFix), "live maps", r.byMaps},
	} {
		var lines []chart.Line
		for _, log := range backends {
			c := r.curveOf(log, x.size)
			l := chart.Line{Name: log}
			for _, n := range c.sizes {
				l.X, l.Y = append(l.X, float64(n)), append(l.Y, report.Median(c.of[n], perSecond))
			}
			lines = append(lines, l)
		}
		if err := chart.Lines(filepath.Join(dir, x.file), x.title, chart.Axis{Label: x.axis, Log: true}, chart.Axis{Label: "attempts/s", Log: true}, lines...); err != nil {
			return err
		}
	}
	var lines []chart.Line
	for _, log := range backends {
		lines = append(lines, withFit(log, thousands(r.replays(log)))...)
	}
	if err := chart.Lines(filepath.Join(dir, "claims-recovery.png"), "Taking over a shard", chart.Axis{Label: "thousand claims in its log", Log: true}, chart.Axis{Label: "ms", Log: true}, lines...); err != nil {
		return err
	}
	lines = append(withFit("tiles", megabytes(r.TileHeap)), withFit("claims of those tiles", megabytes(r.ClaimHeap))...)
	return chart.Lines(filepath.Join(dir, "claims-memory.png"), "The engine's heap", chart.Axis{Label: "thousand"}, chart.Axis{Label: "MB"}, lines...)
}

func megabytes(ps []Point) []Point {
	out := slices.Clone(ps)
	for i := range out {
		out[i] = Point{out[i].X / 1000, out[i].Y / 1e6}
	}
	return out
}

// withFit returns points as a line, and the line that is fitted to them.
func withFit(name string, ps []Point) []chart.Line {
	l, fit := chart.Line{Name: name}, chart.Line{Name: name + ", fitted", Dashed: true}
	f := FitOf(ps)
	for _, p := range ps {
		l.X, l.Y = append(l.X, p.X), append(l.Y, p.Y)
		fit.X, fit.Y = append(fit.X, p.X), append(fit.Y, f.At(p.X))
	}
	return []chart.Line{l, fit}
}
