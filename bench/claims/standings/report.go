//go:build unix

package standings

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/veltrix/cairn/bench/report"
	"github.com/veltrix/cairn/bench/report/chart"
)

// A Measured is what came of one load on one system.
type Measured struct {
	System    string    `json:"system"`
	Round     int       `json:"round"`
	Load      string    `json:"load"`
	Board     bool      `json:"board"` // with its leaderboard, gateway and clients
	Claims    int       `json:"claims"`
	Rate      float64   `json:"claims_per_s"` // won
	Latency   Quantiles `json:"latency"`      // from when a claim was due to its answer
	Published *lag      `json:"published,omitempty"`
	Client    *lag      `json:"client,omitempty"`
	Boards    float64   `json:"boards_per_s,omitempty"` // published, of all hunts
	Frames    float64   `json:"frames_per_s,omitempty"` // at all clients
}

// String returns what there is to say while more is measured.
func (m *Measured) String() string {
	s := fmt.Sprintf("%s, %s: %.0f claims/s, p99 %.2f ms", m.System, m.Load, m.Rate, m.Latency.P99)
	if !m.Board {
		return s + ", no boards"
	}
	return fmt.Sprintf("%s; to the published board p99.9 %.1f ms, to a client %.1f ms", s, m.Published.FromReceipt.P999, m.Client.FromReceipt.P999)
}

// A Report is all that was measured.
type Report struct {
	Hunts   int         `json:"hunts"`
	Players int         `json:"players"`
	Clients int         `json:"clients"`
	Rate    float64     `json:"rate"` // paced
	Seconds float64     `json:"seconds"`
	Runs    []*Measured `json:"runs"`
}

// of returns the runs of a system and load, with or without boards.
func (r *Report) of(system, load string, board bool) []*Measured {
	var some []*Measured
	for _, m := range r.Runs {
		if m.System == system && m.Load == load && m.Board == board {
			some = append(some, m)
		}
	}
	return some
}

// What of a run is shown.
var (
	rate         = func(m *Measured) float64 { return m.Rate }
	p50          = func(m *Measured) float64 { return m.Latency.P50 }
	p99          = func(m *Measured) float64 { return m.Latency.P99 }
	publishedP50 = func(m *Measured) float64 { return m.Published.FromReceipt.P50 }
	publishedP99 = func(m *Measured) float64 { return m.Published.FromReceipt.P99 }
	published999 = func(m *Measured) float64 { return m.Published.FromReceipt.P999 }
	clientP50    = func(m *Measured) float64 { return m.Client.FromReceipt.P50 }
	clientP99    = func(m *Measured) float64 { return m.Client.FromReceipt.P99 }
	client999    = func(m *Measured) float64 { return m.Client.FromReceipt.P999 }
	answered999  = func(m *Measured) float64 { return m.Client.FromAnswer.P999 }
)

// ranged shows a median with the least and the most.
func ranged(format string, s report.Spread) string {
	return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Min, s.Max)
}

// systems returns those that were measured, in the order of Systems.
func (r *Report) systems() []string {
	return slices.DeleteFunc(Systems(), func(s string) bool { return len(r.of(s, loadsOf(s)[0], true)) == 0 })
}

// Markdown returns the tables.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d hunts, %d players, %d clients on WebSockets; %.0f claims won a second for %g s, and in PostgreSQL as many as it can. ", r.Hunts, r.Players, r.Clients, r.Rate, r.Seconds)
	b.WriteString("Ours is a claim service, a leaderboard and a gateway in one process, on Redis each with connections of its own. All share the machine with their store and the clients. ")
	b.WriteString("ms from a claim's receipt; medians, in parentheses the least and the most. The goals are p99.9 ≤ 50 ms to the published board and ≤ 150 ms to a client.\n\n")
	report.Table(&b, "", "claims/s", "published p50", "p99", "p99.9", "at a client p50", "p99", "p99.9", "from the answer, p99.9")
	for _, s := range r.systems() {
		ms := r.of(s, loadsOf(s)[0], true)
		cell := func(format string, of func(*Measured) float64) string {
			return fmt.Sprintf(format, report.Median(ms, of))
		}
		report.Row(&b, s, cell("%.0f", rate), cell("%.1f", publishedP50), cell("%.1f", publishedP99), ranged("%.1f", report.Of(ms, published999)),
			cell("%.1f", clientP50), cell("%.1f", clientP99), ranged("%.1f", report.Of(ms, client999)), cell("%.1f", answered999))
	}
	b.WriteString("\nA ZSET is changed with the claim itself: \"published\" is when a gateway that asks every 50 ms has it.\n\n")
	r.cost(&b)
	return b.String()
}

// cost writes the table of what boards cost the claim path.
func (r *Report) cost(b *strings.Builder) {
	fmt.Fprintf(b, "A claim with and without boards, their gateway and its clients, ms at %.0f/s, and how many a second at most:\n\n", r.Rate)
	report.Table(b, "", "p50 without", "with", "p99 without", "with", "most/s without", "with", "of it")
	for _, s := range r.systems() {
		without, with := r.of(s, Paced, false), r.of(s, Paced, true)
		cells := []string{s}
		for _, of := range []func(*Measured) float64{p50, p99} {
			for _, ms := range [][]*Measured{without, with} {
				cell := ""
				if len(ms) > 0 {
					cell = fmt.Sprintf("%.2f", report.Median(ms, of))
				}
				cells = append(cells, cell)
			}
		}
		free, busy := report.Of(r.of(s, Saturated, false), rate), report.Of(r.of(s, Saturated, true), rate)
		report.Row(b, append(cells, ranged("%.0f", free), ranged("%.0f", busy), report.Times(busy.Median, free.Median))...)
	}
	b.WriteString("\n")
}

// Plots draws the lags, and what boards cost, into a folder.
func (r *Report) Plots(dir string) error {
	systems := r.systems()
	values := func(load func(string) string, board bool, of func(*Measured) float64) []float64 {
		var vs []float64
		for _, s := range systems {
			vs = append(vs, report.Median(r.of(s, load(s), board), of))
		}
		return vs
	}
	first := func(s string) string { return loadsOf(s)[0] }
	err := chart.Bars(filepath.Join(dir, "claims-standings-lag.png"), fmt.Sprintf("From a claim to the standings, %.0f won a second", r.Rate),
		chart.Axis{Label: "ms", Log: true}, systems,
		chart.Series{Name: "published, p50", Values: values(first, true, publishedP50)}, chart.Series{Name: "published, p99.9", Values: values(first, true, published999)},
		chart.Series{Name: "at a client, p50", Values: values(first, true, clientP50)}, chart.Series{Name: "at a client, p99.9", Values: values(first, true, client999)})
	if err != nil {
		return err
	}
	saturated := func(string) string { return Saturated }
	return chart.Bars(filepath.Join(dir, "claims-standings-cost.png"), "Claims won a second, at most", chart.Axis{Label: "claims/s", Log: true}, systems,
		chart.Series{Name: "without boards", Values: values(saturated, false, rate)}, chart.Series{Name: "with", Values: values(saturated, true, rate)})
}
