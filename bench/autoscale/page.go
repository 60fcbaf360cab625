//go:build unix

package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/report"
	"github.com/veltrix/cairn/internal/capacity/hpa"
	"github.com/veltrix/cairn/internal/capacity/svg"
)

// tables is what came of it, in Markdown.
func (r *Result) tables() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; commit %s; `%s`; %s. The autoscaler's time passes %g times as fast as in production, a minute in its rules is %g s, a gateway takes %d connections, the sweep is %v.\n\n",
		r.Machine, r.Commit, r.Command, r.Began.Format("2006-01-02"), r.Hurry, r.Window, r.ConnectionsMax, seconds(r.Sweep))
	r.policyTable(&b)
	report.Table(&b, "", "seconds", "attempts/s", "claim p50", "claim p99", "claim max", "delivery p50", "delivery p99", "delivery max")
	for _, p := range r.Phases {
		report.Row(&b, p.Name, fmt.Sprintf("%.0f", p.Seconds), fmt.Sprintf("%.0f", p.Attempts), ms(p.Claim.P50), ms(p.Claim.P99), ms(p.Claim.Max), ms(p.Delivery.P50), ms(p.Delivery.P99), ms(p.Delivery.Max))
	}
	fmt.Fprintln(&b)
	r.noticedTable(&b)
	r.fleetTable(&b)
	if len(r.Missed) > 0 {
		fmt.Fprintf(&b, "\n**Not met:** %s.\n", strings.Join(r.Missed, "; "))
	}
	return b.String()
}

// policyTable says how roles are scaled here, and how in production.
func (r *Result) policyTable(b *strings.Builder) {
	report.Table(b, "role", "trigger", "one process should have", "in production", "processes", "in production")
	for _, p := range r.Policies {
		for i, t := range p.Triggers {
			row := []string{"", "`" + t.Name + "`", fmt.Sprintf("%g", t.Threshold), fmt.Sprintf("%g", t.Usual), "", ""}
			if i == 0 {
				row[0], row[4] = p.Role, fmt.Sprintf("%d to %d", p.Least, p.Most)
				if p.Usual != nil {
					row[5] = fmt.Sprintf("%d to %d", p.Usual.Least, p.Usual.Most)
				}
			}
			report.Row(b, row...)
		}
	}
	fmt.Fprintln(b)
	for _, p := range r.Policies {
		fmt.Fprintf(b, "A look at %s every %v; up: %s; down: %s.\n", p.Role, seconds(p.Every), rules(p.Behavior.Up), rules(p.Behavior.Down))
	}
	fmt.Fprintln(b)
}

// rules says in words how fast pods come or go.
func rules(r hpa.Rules) string {
	var parts []string
	for _, p := range r.Policies {
		what := fmt.Sprintf("%d", p.Value)
		if p.Type == hpa.Percent {
			what = fmt.Sprintf("%d%%", p.Value)
		}
		parts = append(parts, fmt.Sprintf("%s in %v", what, p.Period.Round(100*time.Millisecond)))
	}
	of := " or "
	if len(parts) == 1 {
		of = ""
	}
	return fmt.Sprintf("%s, what was wanted for %v", strings.Join(parts, of), r.Window.Round(100*time.Millisecond))
}

// noticedTable says what clients noticed.
func (r *Result) noticedTable(b *strings.Builder) {
	c, w := &r.Claims, &r.Watching
	report.Table(b, "what clients saw", "")
	row := func(n int64, what string, args ...any) { report.Row(b, fmt.Sprintf(what, args...), fmt.Sprint(n)) }
	row(c.Won+c.Gone+c.Closed+c.Unknown+c.Again, "attempts decided (%d won, %d gone, %d asked again)", c.Won, c.Gone, c.Again)
	row(c.GivenUp, "**attempts that failed**: never decided, whatever was tried")
	row(c.Undecided(), "tries that were tried again (%d without an answer, %d pending, %d unavailable, %d throttled)", c.Failed, c.Pending, c.Unavailable, c.Throttled)
	row(r.History.Impossible+r.History.TwoWinners+r.History.Other, "answers that can't be, of %d tries that porcupine checked", r.History.Ops)
	row(w.Opened, "WebSocket handshakes done")
	row(w.Refused, "handshakes that admission put off: 503 with `Retry-After`, done later")
	row(r.Balancer.Refused+kinds(w.Errors), "**connections refused or broken** past admission%s", listed(w.Errors))
	row(w.Lost, "connections that were lost")
	row(w.Drains, "times a client was asked to go elsewhere, and went (%d resumed, %d got a snapshot)", w.Resumed, w.Restarted)
	row(w.Deliveries, "deliveries")
	row(w.Gaps+kinds(w.Wrong), "**gaps and faults** in them%s", listed(w.Wrong))
	row(w.Skips, "snapshots instead of what came too fast")
	row(int64(w.States), "different things known in the end; 1 is right")
	row(r.Verified.Total, "violations that `cairn verify` found in %d claims and %d entries of the ledger", r.Verified.Claims, r.Verified.Ledger.Entries)
	fmt.Fprintln(b)
}

func listed(kinds map[string]int64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, fmt.Sprintf("%d %s", kinds[k], k))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// fleetTable says what became of the fleet, and of the simulation.
func (r *Result) fleetTable(b *strings.Builder) {
	fmt.Fprintf(b, "%d gateways and %d claims processes at most; a process was ready after %s, and ended %s after SIGTERM. One of each was left %.0f s after the surge.",
		r.GatewaysMost, r.ClaimsMost, spread(r.StartS), spread(r.EndS), r.SmallAfter)
	if len(r.Alerts) > 0 {
		fmt.Fprintf(b, " Alerts that fired: %s.", strings.Join(r.Alerts, ", "))
	}
	fmt.Fprint(b, "\n\n")
	report.Table(b, "beside `cairn simulate`", "most processes", "simulated", "mean error, processes", "error of process-hours")
	for _, s := range r.Simulated {
		report.Row(b, s.Role, fmt.Sprint(s.MostReal), fmt.Sprint(s.MostPods), fmt.Sprintf("%.2f", s.Error), fmt.Sprintf("%+.0f%%", 100*s.Hours))
	}
}

func ms(v float64) string { return fmt.Sprintf("%.1f ms", v) }

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Millisecond)
}

func spread(s []float64) string {
	if len(s) == 0 {
		return "—"
	}
	return fmt.Sprintf("%.1f to %.1f s", slices.Min(s), slices.Max(s))
}

// document puts the result into autoscaling.md, and its picture into plots.
func (r *Result) document(docs string) error {
	var b bytes.Buffer
	if err := r.picture(&b); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(docs, "plots", "autoscale.svg"), b.Bytes(), 0o644); err != nil {
		return err
	}
	return report.Splice(filepath.Join(docs, "autoscaling.md"), "autoscale", r.tables()+"\n![Processes, what they are scaled by, and what clients saw](plots/autoscale.svg)\n")
}

// picture draws the run over its seconds.
func (r *Result) picture(b *bytes.Buffer) error {
	var at []float64
	for _, s := range r.Samples {
		at = append(at, s.At)
	}
	line := func(name string, of func(*Sample) float64) svg.Series {
		s := svg.Series{Name: name}
		for i := range r.Samples {
			s.Values = append(s.Values, of(&r.Samples[i]))
		}
		return s
	}
	step := func(name string, of func(*Sample) float64) svg.Series {
		s := line(name, of)
		s.Step = true
		return s
	}
	wants := func(key string) svg.Series {
		return line(key[strings.Index(key, "/")+1:], func(s *Sample) float64 { return s.Wants[key] })
	}
	processes := svg.Lines{Title: "processes", X: "seconds", At: at, Series: []svg.Series{
		step("gateways", func(s *Sample) float64 { return float64(s.Gateways) }),
		step("claims", func(s *Sample) float64 { return float64(s.Claims) }),
	}}
	for _, s := range r.Simulated {
		processes.Series = append(processes.Series, s.series(r.Samples))
	}
	return svg.Write(b, "a surge, and a fleet that grows and shrinks with it", processes,
		svg.Lines{Title: "gateways that each trigger wants", X: "seconds", At: at, Series: []svg.Series{wants("gateway/connections"), wants("gateway/attempts"), wants("gateway/staleness"), wants("gateway/sweeps")}},
		svg.Lines{Title: "claims processes that each trigger wants", X: "seconds", At: at, Series: []svg.Series{wants("claims/attempts"), wants("claims/queue")}},
		svg.Lines{Title: "clients that watch", X: "seconds", At: at, Series: []svg.Series{
			line("to be there", func(s *Sample) float64 { return float64(s.Clients) }),
			line("connected", func(s *Sample) float64 { return float64(s.Connected) }),
		}},
		svg.Lines{Title: "attempts", X: "seconds", Y: "a second", At: at, Series: []svg.Series{
			line("decided", func(s *Sample) float64 { return float64(s.Decided) }),
			line("tried again", func(s *Sample) float64 { return float64(s.Undecided) }),
		}},
		svg.Lines{Title: "p99 of a second", X: "seconds", Y: "ms", At: at, Series: []svg.Series{
			line("claim", func(s *Sample) float64 { return s.Claim }),
			line("delivery", func(s *Sample) float64 { return s.Delivery }),
		}},
	)
}

// series returns the simulated processes at the moments of samples.
func (s *Simulated) series(samples []Sample) svg.Series {
	l := svg.Series{Name: "simulated", Step: true}
	i := 0
	for _, x := range samples {
		for i+1 < len(s.At) && s.At[i+1] <= x.At {
			i++
		}
		l.Values = append(l.Values, float64(s.Pods[i]))
	}
	return l
}
