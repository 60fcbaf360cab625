//go:build unix

package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/veltrix/cairn/bench/report"
	"github.com/veltrix/cairn/internal/capacity"
)

// predicted returns a record as a fleet would have made it that costs exactly
// what c says.
func predicted(c *capacity.Coefficients) *capacity.Record {
	rec := &capacity.Record{Machine: "a machine", Commit: "abc", Command: "make bench-plan"}
	for _, p := range phases {
		l := capacity.DefaultLoad()
		l.Players, l.Attempts, l.Connections, l.Shards, l.Tiles = players, p.rate, p.conns, shards, tiles
		l.Regions, l.InView, l.Ack, l.Replicas = 1, 1, "primary", 0
		if l.Wins = 0; p.rate > 0 {
			l.Wins, l.Over = float64(p.tiles)/tiles*0.5, "socket"
		}
		if p.crowd > 0 && p.rate > 0 {
			l.Wins, l.Over = 1/float64(p.crowd), "http"
		}
		rec.Runs = append(rec.Runs, capacity.Run{
			Name: p.name, Seconds: 1, Load: l, Processes: fleet, Shards: shards,
			IdleGateway: c.GatewayIdle + l.WinsPerS()*c.GatewayWin, Usage: c.Predict(&l, fleet, shards),
		})
	}
	return rec
}

// TestSolve: what predicts a record is what is found in it, within what the
// writes to the one socket of two loads make up.
func TestSolve(t *testing.T) {
	c, err := capacity.Measured()
	if err != nil {
		t.Fatal(err)
	}
	got, err := solve(predicted(c))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"gateway.idle": c.GatewayIdle, "gateway.win": 1e6 * c.GatewayWin, "gateway.frame": 1e6 * c.GatewayFrame, "gateway.request": 1e6 * c.GatewayRequest, "gateway.won": 1e6 * c.GatewayWon,
		"claims.idle": c.ClaimsIdle, "claims.attempt": 1e6 * c.ClaimsAttempt, "claims.win": 1e6 * c.ClaimsWin,
		"leaderboard.idle": c.LeaderboardIdle, "leaderboard.win": 1e6 * c.LeaderboardWin, "rewards.idle": c.RewardsIdle, "rewards.win": 1e6 * c.RewardsWin,
		"redis.append": 1e6 * c.RedisAppend, "json.outcome": c.JSONOutcome, "redis.process": c.RedisProcess,
	} {
		if math.Abs(got[name]-want) > 0.02*want {
			t.Errorf("%s: found %g, put in %g", name, got[name], want)
		}
	}
}

// TestRefresh: a record replaces the coefficients that are from it, with their
// origin, and no other; a record that is not there replaces none.
func TestRefresh(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "coefficients.json")
	old, err := os.ReadFile("../../internal/capacity/coefficients.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, old, 0o644); err != nil {
		t.Fatal(err)
	}
	if changed, err := refresh(file, dir); err != nil || len(changed) != 0 {
		t.Errorf("without records: %v, %v; want nothing changed", changed, err)
	}
	before, err := capacity.ParseCoefficients(old)
	if err != nil {
		t.Fatal(err)
	}
	twice := *before
	twice.RewardsWin *= 2
	b, err := json.Marshal(predicted(&twice))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "plan.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	changed, err := refresh(file, dir)
	if err != nil || !slices.Contains(changed, "rewards.win") || slices.Contains(changed, "gateway.delivery") {
		t.Errorf("changed %v, %v; want rewards.win among them, and not gateway.delivery", changed, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	after, err := capacity.ParseCoefficients(text)
	if err != nil || math.Abs(after.RewardsWin/before.RewardsWin-2) > 0.02 || after.Delivery != before.Delivery {
		t.Errorf("rewards.win is %g, was %g; want twice that: %v", after.RewardsWin, before.RewardsWin, err)
	}
	for _, o := range after.Origins {
		if o.Name == "rewards.win" && (o.Machine != "a machine" || o.Commit != "abc") {
			t.Errorf("the origin is %+v; want the record's", o)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "plan.json"), []byte(`{"runs":[]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := refresh(file, dir); err == nil || !strings.Contains(err.Error(), "has no run") {
		t.Errorf("a record without runs: %v; want what it lacks", err)
	}
}

// TestDocument: the table of docs/capacity.md is of the record and of the
// coefficients that are here now.
func TestDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/capacity.md")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := report.Read[capacity.Record]("../../internal/capacity/testdata", "plan.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := capacity.Measured()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), strings.TrimSpace(table(c, rec))) {
		t.Error("docs/capacity.md has another table than these make: make coefficients")
	}
}
