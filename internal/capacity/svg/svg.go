// Package svg draws bars and lines as Scalable Vector Graphics (SVG 1.1), which
// browsers and Markdown viewers show.
//
// It is here since a plotting library costs more than it draws: gonum.org/v1/plot
// with its fonts makes the stripped command 8 MB larger, a sixth.
package svg

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
)

// A Panel is one diagram. Panels of a picture stand below each other.
type Panel interface {
	height() int
	draw(b *bytes.Buffer, top int)
}

// Sizes in pixels.
const (
	width  = 860
	margin = 16
	labels = 290 // of bars, at the left
	row    = 22
	axis   = 60 // of lines, at the left
	plotH  = 180
	head   = 40  // a panel's title
	legend = 115 // of one line
)

var palette = []string{"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"}

// Write draws panels under a title.
func Write(w io.Writer, title string, panels ...Panel) error {
	total := head + margin
	for _, p := range panels {
		total += p.height()
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, total, width, total)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, total)
	text(&b, margin, 26, "start", 16, title)
	top := head
	for _, p := range panels {
		p.draw(&b, top)
		top += p.height()
	}
	b.WriteString("</svg>\n")
	_, err := w.Write(b.Bytes())
	return err
}

// Bars is a row of bars a name.
type Bars struct {
	Title string
	Rows  []Bar
	Most  float64 // the axis' end; 0 means the longest bar's
	Mark  float64 // where a line stands across; 0 means none
}

// A Bar is one of them. Its text stands behind it.
type Bar struct {
	Name  string
	Value float64
	Text  string
	Color int
}

func (p Bars) height() int { return head + row*len(p.Rows) + margin }

func (p Bars) draw(b *bytes.Buffer, top int) {
	text(b, margin, top+24, "start", 14, p.Title)
	most := p.Most
	for _, r := range p.Rows {
		if p.Most == 0 && finite(r.Value) {
			most = max(most, r.Value)
		}
	}
	span := float64(width - labels - 2*margin - 150) // room for the text behind the longest
	at := func(v float64) float64 {
		if most <= 0 || math.IsNaN(v) {
			return 0
		}
		return span * min(max(v/most, 0), 1)
	}
	for i, r := range p.Rows {
		y := top + head + row*i
		text(b, labels-8, y+14, "end", 12, r.Name)
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labels, y+2, at(r.Value), row-6, color(r.Color))
		text(b, labels+int(at(r.Value))+6, y+14, "start", 12, r.Text)
	}
	if p.Mark > 0 {
		x := float64(labels) + at(p.Mark)
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#444" stroke-dasharray="4 3"/>`+"\n", x, top+head-4, x, top+head+row*len(p.Rows))
	}
}

// Lines are values over the same x, each a line.
type Lines struct {
	Title, X, Y string
	At          []float64 // ascending
	Series      []Series
	Mark        float64 // a value that a line stands at; 0 means none
}

// Series is one line: a value for each x.
type Series struct {
	Name   string
	Values []float64
	Step   bool // it jumps
}

func (p Lines) height() int { return head + plotH + 44 }

func (p Lines) draw(b *bytes.Buffer, top int) {
	text(b, margin, top+24, "start", 14, p.Title)
	left, y0 := float64(axis+margin), float64(top+head+plotH)
	span, most := float64(width-margin)-left, p.Mark
	for _, s := range p.Series {
		for _, v := range s.Values {
			if finite(v) {
				most = max(most, v)
			}
		}
	}
	if most <= 0 {
		most = 1
	}
	most = nice(most)
	first, last := 0.0, 1.0
	if n := len(p.At); n > 1 {
		first, last = p.At[0], p.At[n-1]
	}
	x := func(v float64) float64 { return left + span*(v-first)/(last-first) }
	y := func(v float64) float64 { return y0 - plotH*min(v/most, 1) }
	for i := range 5 {
		v := most * float64(i) / 4
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`+"\n", left, y(v), width-margin, y(v))
		text(b, int(left)-6, int(y(v))+4, "end", 11, number(v))
		text(b, int(x(first+(last-first)*float64(i)/4)), int(y0)+16, "middle", 11, number(first+(last-first)*float64(i)/4))
	}
	text(b, width-margin, int(y0)+32, "end", 11, p.X)
	text(b, int(left), top+head-4, "start", 11, p.Y)
	for i, s := range p.Series {
		p.line(b, s, color(i), x, y)
		text(b, width-margin-legend*(len(p.Series)-i)+14, top+24, "start", 12, s.Name)
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/>`+"\n", width-margin-legend*(len(p.Series)-i), top+15, color(i))
	}
	if p.Mark > 0 {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%d" y2="%.1f" stroke="#444" stroke-dasharray="4 3"/>`+"\n", left, y(p.Mark), width-margin, y(p.Mark))
	}
}

// line draws one line. Points that lie level with those around them are left
// out: a day has thousands.
func (p Lines) line(b *bytes.Buffer, s Series, stroke string, x, y func(float64) float64) {
	b.WriteString(`<polyline fill="none" stroke-width="1.5" stroke="` + stroke + `" points="`)
	type point struct{ x, y float64 }
	put := func(p point) { fmt.Fprintf(b, "%.1f,%.1f ", p.x, p.y) }
	var last, skipped *point
	for i, v := range s.Values[:min(len(s.Values), len(p.At))] {
		if !finite(v) {
			continue
		}
		now := &point{x(p.At[i]), y(v)}
		if last != nil && math.Abs(now.y-last.y) < 0.5 {
			skipped = now
			continue
		}
		switch {
		case last != nil && s.Step:
			put(point{now.x, last.y})
		case skipped != nil:
			put(*skipped)
		}
		put(*now)
		last, skipped = now, nil
	}
	if skipped != nil {
		put(*skipped)
	}
	b.WriteString(`"/>` + "\n")
}

func color(i int) string { return palette[i%len(palette)] }

// number prints a tick of an axis.
func number(v float64) string {
	if math.Abs(v) >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", v)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// nice returns the least of 1, 2, 4, 5 or 8 times a power of ten that v fits
// under.
func nice(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 4, 5, 8} {
		if v <= n*unit {
			return n * unit
		}
	}
	return 10 * unit
}

func text(b *bytes.Buffer, x, y int, anchor string, size int, s string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="%s" font-size="%d">%s</text>`+"\n", x, y, anchor, size, html.EscapeString(s))
}
