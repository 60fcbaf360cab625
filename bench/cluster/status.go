//go:build unix

package main

import (
	"fmt"
	"strings"
	"time"
)

// A status is how everything does at one moment. Rates and quantiles are of the
// last seconds, by what the processes themselves measured; times are
// milliseconds, and -1 where there was nothing to measure.
type status struct {
	At     time.Time   `json:"at"`
	Redis  []redisRow  `json:"redis"`
	Ledger postgresRow `json:"postgres"`
	Roles  []roleRow   `json:"roles"`
	Hunts  []huntRow   `json:"hunts"`

	ClaimsPerS float64 `json:"claims_per_s"` // won
	Trouble    string  `json:"trouble,omitempty"`
}

// A processRow is what all processes have.
type processRow struct {
	Name  string `json:"name"`
	Pid   int    `json:"pid"`   // 0 if it does not run
	State string `json:"state"` // up, paused or down
	Addr  string `json:"addr"`
}

type redisRow struct {
	processRow
	Role       string  `json:"role"` // primary, replica, or ? as long as nobody can tell
	Of         string  `json:"of,omitempty"`
	Slots      int     `json:"slots"`
	InStep     bool    `json:"in_step"` // a replica that has all that its primary has
	MemBytes   float64 `json:"memory_bytes"`
	Clients    int     `json:"clients"`
	MaxClients int     `json:"maxclients"`
	OpsPerS    int     `json:"ops_per_s"`
	Err        string  `json:"err,omitempty"`
}

type postgresRow struct {
	processRow
	Connections int    `json:"connections"`
	Entries     int64  `json:"entries"`
	LagRecords  int    `json:"lag_records"` // of all shards, -1 if nobody knows
	Err         string `json:"err,omitempty"`
}

type roleRow struct {
	processRow
	Role  string `json:"role"`
	Ready bool   `json:"ready"`
	Why   string `json:"why,omitempty"` // it is not
	Play  string `json:"play,omitempty"`

	Shards int     `json:"shards"` // claims: served; rewards: -1
	PerS   float64 `json:"per_s"`  // what it does: claims won, attempts, maps, boards, entries
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Lag    string  `json:"lag,omitempty"`   // behind the logs, with its unit
	Conns  int     `json:"connections"`     // gateway: players'
	Starts int     `json:"starts"`          // how often it was started
	MemMB  float64 `json:"resident_memory"` // MB
}

type huntRow struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Tiles  int    `json:"tiles_per_map"`
	Shards int    `json:"shards"`
}

// line is a status for a terminal that is none.
func (s *status) line() string {
	up, primaries := 0, 0
	for _, r := range s.Redis {
		if r.State == "up" {
			up++
		}
		if r.Role == "primary" && r.Slots > 0 {
			primaries++
		}
	}
	ready, conns, p99 := 0, 0, -1.0
	for _, r := range s.Roles {
		if r.Ready {
			ready++
		}
		conns += max(0, r.Conns)
		if r.Role == "claims" {
			p99 = max(p99, r.P99)
		}
	}
	parts := []string{
		s.At.Format(time.TimeOnly),
		fmt.Sprintf("redis %d/%d up, %d primaries", up, len(s.Redis), primaries),
		fmt.Sprintf("postgres %s, ledger lag %s", s.Ledger.State, orDash(s.Ledger.LagRecords)),
		fmt.Sprintf("roles %d/%d ready", ready, len(s.Roles)),
		fmt.Sprintf("%.0f claims/s, p99 %s ms, %d connections", s.ClaimsPerS, ms(p99), conns),
	}
	if s.Trouble != "" {
		parts = append(parts, s.Trouble)
	}
	return strings.Join(parts, " · ")
}

func orDash(n int) string {
	if n < 0 {
		return "–"
	}
	return fmt.Sprint(n)
}

// ms prints milliseconds to two figures or so.
func ms(v float64) string {
	switch {
	case v < 0:
		return "–"
	case v < 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// size prints bytes.
func size(v float64) string {
	for _, unit := range []string{"B", "kB", "MB"} {
		if v < 1000 {
			return fmt.Sprintf("%.3g %s", v, unit)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.3g GB", v)
}
