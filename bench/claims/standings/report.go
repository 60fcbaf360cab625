//go:build unix

package standings

import (
	"fmt"
	"slices"
	"strings"
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
	Boards    float64   `json:"boards_per_s,omitempty"`
	Frames    float64   `json:"frames_per_s,omitempty"` // at all clients
}

// String returns what there is to say while more is measured.
func (m *Measured) String() string {
	s := fmt.Sprintf("%s, %s: %.0f claims/s, p99 %.2f ms", m.System, m.Load, m.Rate, m.Latency.P99)
	if !m.Board {
		return s + ", no boards"
	}
	return fmt.Sprintf("%s; to the published board p99.9 %.1f ms, to a client %.1f ms; %d unseen", s,
		m.Published.FromReceipt.P999, m.Client.FromReceipt.P999, m.Client.Unseen)
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

// A spread is the median of some values, the least and the most of them.
type spread struct{ median, least, most float64 }

func spreadOf(ms []*Measured, of func(*Measured) float64) spread {
	vs := make([]float64, len(ms))
	for i, m := range ms {
		vs[i] = of(m)
	}
	slices.Sort(vs)
	n := len(vs)
	if n == 0 {
		return spread{}
	}
	return spread{(vs[(n-1)/2] + vs[n/2]) / 2, vs[0], vs[n-1]}
}

func (s spread) format(f string) string { return fmt.Sprintf(f, s.median) }

// ranged is format with the least and the most.
func (s spread) ranged(f string) string {
	return fmt.Sprintf(f+" ("+f+"–"+f+")", s.median, s.least, s.most)
}

// Goals of ours, in milliseconds, from a claim's receipt.
const (
	goalPublished = 50.0
	goalClient    = 150.0
)

// Markdown returns the tables.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d hunts, %d players, %d clients. %.0f won claims a second for %.0f s, or, of PostgreSQL, as many as it can. ms; medians of the rounds, in parentheses the least and the most.\n\n",
		r.Hunts, r.Players, r.Clients, r.Rate, r.Seconds)
	b.WriteString("| | claims/s | receipt → published p50 | p99 | p99.9 | receipt → client p50 | p99 | p99.9 | answer → client p99.9 |\n| --- | --: | --: | --: | --: | --: | --: | --: | --: |\n")
	for _, s := range Systems() {
		load := loadsOf(s)[0]
		ms := r.of(s, load, true)
		if len(ms) == 0 {
			continue
		}
		cell := func(f string, of func(*Measured) float64) string { return spreadOf(ms, of).format(f) }
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", s,
			cell("%.0f", func(m *Measured) float64 { return m.Rate }),
			cell("%.1f", func(m *Measured) float64 { return m.Published.FromReceipt.P50 }),
			cell("%.1f", func(m *Measured) float64 { return m.Published.FromReceipt.P99 }),
			spreadOf(ms, func(m *Measured) float64 { return m.Published.FromReceipt.P999 }).ranged("%.1f"),
			cell("%.1f", func(m *Measured) float64 { return m.Client.FromReceipt.P50 }),
			cell("%.1f", func(m *Measured) float64 { return m.Client.FromReceipt.P99 }),
			spreadOf(ms, func(m *Measured) float64 { return m.Client.FromReceipt.P999 }).ranged("%.1f"),
			cell("%.1f", func(m *Measured) float64 { return m.Client.FromAnswer.P999 }))
	}
	b.WriteString("\nA ZSET is published with the claim's answer; what it shows here is its gateway's read.\n\n")
	b.WriteString(r.cost())
	return b.String()
}

// cost returns the table of what boards cost the claim path.
func (r *Report) cost() string {
	var b strings.Builder
	fmt.Fprintf(&b, "What boards, their gateway and its clients cost the claims (%.0f/s, and as many as it can):\n\n", r.Rate)
	b.WriteString("| | p50 without | with | p99 without | with | most claims/s without | with | kept |\n| --- | --: | --: | --: | --: | --: | --: | --: |\n")
	for _, s := range Systems() {
		without, with := r.of(s, Paced, false), r.of(s, Paced, true)
		free, busy := r.of(s, Saturated, false), r.of(s, Saturated, true)
		if len(free) == 0 || len(busy) == 0 {
			continue
		}
		p50 := func(m *Measured) float64 { return m.Latency.P50 }
		p99 := func(m *Measured) float64 { return m.Latency.P99 }
		rate := func(m *Measured) float64 { return m.Rate }
		cells := []string{"", "", "", ""}
		if len(without) > 0 {
			cells = []string{
				spreadOf(without, p50).format("%.2f"), spreadOf(with, p50).format("%.2f"),
				spreadOf(without, p99).format("%.2f"), spreadOf(with, p99).format("%.2f"),
			}
		}
		a, z := spreadOf(free, rate), spreadOf(busy, rate)
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.0f%% |\n", s, strings.Join(cells, " | "), a.ranged("%.0f"), z.ranged("%.0f"), 100*z.median/a.median)
	}
	return b.String() + "\n"
}
