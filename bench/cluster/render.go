//go:build unix

package main

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
)

var (
	title  = lipgloss.NewStyle().Bold(true)
	faint  = lipgloss.NewStyle().Faint(true)
	good   = lipgloss.NewStyle().Foreground(lipgloss.Green)
	middle = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	bad    = lipgloss.NewStyle().Foreground(lipgloss.Red)
)

// render draws everything: one line a process, and what can be done below.
func (m model) render() string {
	s := m.watcher.status()
	if s == nil {
		return "looking …"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s   %s claims/s won\n\n", title.Render("cairn cluster"), faint.Render(time.Since(m.began).Round(time.Second).String()), title.Render(fmt.Sprintf("%.0f", s.ClaimsPerS)))
	row := 0
	b.WriteString(m.table(&row, []string{"REDIS", "PID", "ADDRESS", "STATE", "PART", "SLOTS", "MEMORY", "CLIENTS", "OPS/S"}, redisCells(s)))
	b.WriteString(m.table(&row, []string{"LEDGER", "PID", "ADDRESS", "STATE", "CONNECTIONS", "ENTRIES", "LAG"}, [][]string{ledgerCells(s.Ledger)}))
	b.WriteString(m.table(&row, []string{"ROLE", "PID", "ADMIN", "STATE", "SHARDS", "/S", "p50 ms", "p99 ms", "LAG", "CONNS", "MB", ""}, roleCells(s)))
	var hunts, play []string
	for _, h := range s.Hunts {
		hunts = append(hunts, fmt.Sprintf("%s %s, %d tiles a map on %d shards", h.Name, h.State, h.Tiles, h.Shards))
	}
	for _, r := range s.Roles {
		if r.Play != "" {
			play = append(play, r.Play)
		}
	}
	fmt.Fprintf(&b, "%s %s\n%s %s\n", faint.Render("hunts"), strings.Join(hunts, "; "), faint.Render("play "), strings.Join(play, "  "))
	fmt.Fprintf(&b, "%s\n", faint.Render("↑↓ choose · k kill -9 · p pause, continue · s stop · r restart · q quit (drains)"))
	if s.Trouble != "" {
		b.WriteString(bad.Render(s.Trouble) + "\n")
	}
	b.WriteString(m.did)
	return clip(b.String(), m.width, m.height)
}

// clip cuts what the terminal has no room for.
func clip(text string, width, height int) string {
	lines := strings.Split(text, "\n")
	lines = lines[:min(len(lines), height)]
	narrow := lipgloss.NewStyle().MaxWidth(width)
	for i, l := range lines {
		if lipgloss.Width(l) > width {
			lines[i] = narrow.Render(l)
		}
	}
	return strings.Join(lines, "\n")
}

// table draws rows, of which the first is the process number *row, and counts
// them there. It is drawn some times a second beside what it watches: a table
// of lipgloss's costs ten times as much.
func (m model) table(row *int, headers []string, rows [][]string) string {
	widths := make([]int, len(headers))
	for _, cells := range append([][]string{headers}, rows...) {
		for i, c := range cells {
			widths[i] = max(widths[i], lipgloss.Width(c))
		}
	}
	var b strings.Builder
	line := func(mark string, cells []string) {
		b.WriteString(mark)
		for i, c := range cells {
			b.WriteString(c + strings.Repeat(" ", widths[i]-lipgloss.Width(c)+2))
		}
		b.WriteByte('\n')
	}
	for i, h := range headers {
		headers[i] = faint.Render(h)
	}
	line("  ", headers)
	for _, cells := range rows {
		mark := "  "
		if *row == m.chosen {
			mark = title.Render("▸ ")
		}
		line(mark, cells)
		*row++
	}
	return b.String() + "\n"
}

// stateCell says how a process is, in a colour.
func stateCell(p processRow, ready bool) string {
	switch {
	case p.State == "down":
		return bad.Render("down")
	case p.State == "paused":
		return middle.Render("paused")
	case !ready:
		return middle.Render("not ready")
	}
	return good.Render("up")
}

func pid(p processRow) string {
	if p.Pid == 0 {
		return "–"
	}
	return fmt.Sprint(p.Pid)
}

func redisCells(s *status) [][]string {
	var rows [][]string
	for _, r := range s.Redis {
		part := r.Role
		if r.Of != "" {
			part = "replica of " + r.Of
		}
		state := stateCell(r.processRow, r.Err == "")
		if r.State == "up" && r.Err == "" && !r.InStep {
			state = middle.Render("not in step")
		}
		row := []string{r.Name, pid(r.processRow), r.Addr, state, part, fmt.Sprint(r.Slots), "–", "–", "–"}
		if r.State == "up" && r.Err == "" {
			row[6], row[7], row[8] = size(r.MemBytes), fmt.Sprintf("%d / %d", r.Clients, r.MaxClients), fmt.Sprint(r.OpsPerS)
		}
		rows = append(rows, row)
	}
	return rows
}

func ledgerCells(p postgresRow) []string {
	row := []string{p.Name, pid(p.processRow), p.Addr, stateCell(p.processRow, p.Err == ""), "–", "–", "–"}
	if p.State == "up" && p.Err == "" {
		row[4], row[5] = fmt.Sprint(p.Connections), fmt.Sprint(p.Entries)
	}
	if p.LagRecords >= 0 {
		row[6] = fmt.Sprintf("%d records", p.LagRecords)
	}
	return row
}

// what says what a role's rate is of.
var what = map[string]string{"claims": "claims won", "gateway": "attempts", "generator": "maps", "leaderboard": "boards", "rewards": "entries"}

func roleCells(s *status) [][]string {
	var rows [][]string
	for _, r := range s.Roles {
		note := faint.Render(what[r.Role])
		switch {
		case r.State != "up":
			note = ""
		case !r.Ready:
			note = middle.Render(r.Why)
		case r.Why != "": // what it can do without
			note += faint.Render("; " + r.Why)
		}
		row := []string{
			r.Name, pid(r.processRow), r.Addr, stateCell(r.processRow, r.Ready), orDash(r.Shards), fmt.Sprintf("%.1f", r.PerS),
			ms(r.P50), ms(r.P99), r.Lag, orDash(r.Conns), fmt.Sprintf("%.0f", r.MemMB), note,
		}
		if r.State != "up" {
			for i := 4; i < len(row)-1; i++ {
				row[i] = "–"
			}
		}
		rows = append(rows, row)
	}
	return rows
}
