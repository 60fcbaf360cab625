//go:build unix

package endtoend

import (
	"fmt"
	"strings"

	"github.com/veltrix/cairn/bench/report"
)

// A Report is all that was measured.
type Report struct {
	Players int     `json:"players"`
	Window  int     `json:"window"`
	Tiles   int     `json:"tiles"`
	Rate    float64 `json:"paced_rate"`

	MixRate    float64 `json:"mix_rate"`
	MixPlayers int     `json:"mix_players"`
	RefreshMS  int64   `json:"refresh_ms"`

	Sockets []*Socketed `json:"sockets"` // every run
	Mixes   []*Mixed    `json:"mixes"`
}

// goalTimes is how much more than the gateway on a script ours is to do.
const goalTimes = 3.0

// Markdown returns the tables.
func (r *Report) Markdown() string {
	var b strings.Builder
	if len(r.Sockets) > 0 {
		r.sockets(&b)
	}
	if len(r.Mixes) > 0 {
		r.mixes(&b)
	}
	return b.String()
}

// of returns the runs of a system.
func of[T any](all []T, name func(T) string, system string) (some []T) {
	for _, m := range all {
		if name(m) == system {
			some = append(some, m)
		}
	}
	return some
}

func (r *Report) socketsOf(system string) []*Socketed {
	return of(r.Sockets, func(m *Socketed) string { return m.System }, system)
}

func (r *Report) sockets(b *strings.Builder) {
	fmt.Fprintf(b, "%d players on a WebSocket each, %d claims in flight at most; any tile of the last %d maps of %d, one of which opens each second. "+
		"Medians, in parentheses the least and the most. CPU is that of all processes, the store's included, a claim; paced is %.0f claims a second for all, timed from when each was due.\n\n",
		r.Players, r.Window, mapsOpen, r.Tiles, r.Rate)
	report.Table(b, "", "claims/s", "of lua", "won", "CPU, servers", "CPU, players", "p50", "p99", "paced p50", "paced p99")
	base := report.Median(r.socketsOf(Lua), func(m *Socketed) float64 { return m.Rate })
	for _, name := range []string{OursFilelog, OursRedis, Lua} {
		ms := r.socketsOf(name)
		if len(ms) == 0 {
			continue
		}
		at := func(f string, of func(*Socketed) float64) string { return fmt.Sprintf(f, report.Median(ms, of)) }
		rate := report.Of(ms, func(m *Socketed) float64 { return m.Rate })
		report.Row(b, name, ranged("%.0f", rate), report.Times(rate.Median, base),
			at("%.0f%%", func(m *Socketed) float64 { return 100 * m.Won }),
			at("%.2f µs", func(m *Socketed) float64 { return m.ServerCPU }),
			at("%.2f µs", func(m *Socketed) float64 { return m.ClientCPU }),
			at("%.2f ms", func(m *Socketed) float64 { return m.P50 / 1000 }),
			at("%.2f ms", func(m *Socketed) float64 { return m.P99 / 1000 }),
			at("%.2f ms", func(m *Socketed) float64 { return m.PacedP50 / 1000 }),
			ranged("%.2f ms", report.Of(ms, func(m *Socketed) float64 { return m.PacedP99 / 1000 })))
	}
	fmt.Fprintf(b, "\nThe goal is %.0f× lua.\n\n", goalTimes)
}

func (r *Report) mixes(b *strings.Builder) {
	fmt.Fprintf(b, "%.0f requests a second over HTTP, %d%% of them claims, the others the first 100 of %d players' standings. "+
		"The view is refreshed every %d ms and read from a streaming follower.\n\n", r.MixRate, claimShare, r.MixPlayers, r.RefreshMS)
	report.Table(b, "", "requests/s", "reads p50", "p99", "claims p50", "p99", "standings' age p50", "p99", "replication lag p50", "p99", "CPU, servers")
	for _, name := range []string{OursMix, ViewMix} {
		ms := of(r.Mixes, func(m *Mixed) string { return m.System }, name)
		if len(ms) == 0 {
			continue
		}
		at := func(f string, of func(*Mixed) float64) string { return fmt.Sprintf(f, report.Median(ms, of)) }
		lag := func(of func(*Mixed) float64) string {
			if name == OursMix {
				return ""
			}
			return at("%.1f ms", of)
		}
		report.Row(b, name, at("%.0f", func(m *Mixed) float64 { return m.Rate }),
			at("%.2f ms", func(m *Mixed) float64 { return m.ReadP50 / 1000 }),
			ranged("%.2f ms", report.Of(ms, func(m *Mixed) float64 { return m.ReadP99 / 1000 })),
			at("%.2f ms", func(m *Mixed) float64 { return m.ClaimP50 / 1000 }),
			ranged("%.2f ms", report.Of(ms, func(m *Mixed) float64 { return m.ClaimP99 / 1000 })),
			at("%.0f ms", func(m *Mixed) float64 { return m.StaleP50 }),
			at("%.0f ms", func(m *Mixed) float64 { return m.StaleP99 }),
			lag(func(m *Mixed) float64 { return m.ReplayP50 }), lag(func(m *Mixed) float64 { return m.ReplayP99 }),
			at("%.0f%% of a core", func(m *Mixed) float64 { return 100 * m.CPU }))
	}
	b.WriteByte('\n')
}

// ranged is a median with the least and the most.
func ranged(f string, s report.Spread) string {
	return fmt.Sprintf(f+" ("+f+"–"+f+")", s.Median, s.Min, s.Max)
}
