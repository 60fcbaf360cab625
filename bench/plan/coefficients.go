//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/veltrix/cairn/internal/capacity"
)

// refresh writes into a file of coefficients what the records of a folder have
// now, and returns the names of those that changed. A record that is not there
// leaves its coefficients as they are.
func refresh(file, dir string) ([]string, error) {
	old, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []capacity.Origin
	if err := json.Unmarshal(old, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var changed []string
	for i := range all {
		o := &all[i]
		name, what, _ := strings.Cut(o.From, " ")
		pick := picks[name]
		switch {
		case o.From == "":
			continue
		case pick == nil:
			return nil, fmt.Errorf("%s: %s: from is %q; want a file of bench/out that is known, and what to pick", file, o.Name, o.From)
		}
		record, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		fresh, err := pick(record, what)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, o.Name, err)
		}
		if fresh.Value = threeDigits(fresh.Value); fresh.Value != o.Value || fresh.Commit != o.Commit || fresh.Command != o.Command {
			o.Value, o.Machine, o.Commit, o.Command = fresh.Value, fresh.Machine, fresh.Commit, fresh.Command
			changed = append(changed, o.Name)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		return nil, err
	}
	if _, err := capacity.ParseCoefficients(b.Bytes()); err != nil {
		return nil, err
	}
	return changed, os.WriteFile(file, b.Bytes(), 0o644)
}

func threeDigits(x float64) float64 {
	if x <= 0 { // a difference of two runs that noise has swallowed
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-2)
	return math.Round(math.Round(x/unit)*unit*1e12) / 1e12
}

// picks are how a figure is found in a record, by the record's file.
var picks = map[string]func(record []byte, what string) (capacity.Origin, error){
	"plan.json":           pickFleet,
	"broadcast-full.json": pickBroadcast,
}

// pickBroadcast takes medians over all that was measured of ours in JSON at the
// default sweep.
func pickBroadcast(record []byte, what string) (o capacity.Origin, err error) {
	var r struct {
		Machine, Commit, Command string
		Runs                     []struct {
			Name   string
			Growth struct {
				Idle   float64 `json:"bytes_idle"`
				Kernel float64 `json:"bytes_kernel"`
			}
			Loads []struct {
				Sweep float64 `json:"sweep_ms"`
				Net   float64 `json:"cpu_us_net_per_delivery"`
			}
		}
	}
	if err := json.Unmarshal(record, &r); err != nil {
		return o, err
	}
	var values []float64
	for _, run := range r.Runs {
		if run.Name != "ours" {
			continue
		}
		switch what {
		case "gateway.socket":
			values = append(values, run.Growth.Idle)
		case "gateway.socket_kernel":
			values = append(values, run.Growth.Kernel/2)
		case "gateway.delivery":
			for _, l := range run.Loads {
				if l.Sweep == 50 {
					values = append(values, l.Net)
				}
			}
		}
	}
	if len(values) == 0 {
		return o, fmt.Errorf("has nothing of ours to pick %s from", what)
	}
	slices.Sort(values)
	return capacity.Origin{Value: values[len(values)/2], Machine: r.Machine, Commit: r.Commit, Command: r.Command}, nil
}

// pickFleet solves for one coefficient; see solve.
func pickFleet(record []byte, what string) (o capacity.Origin, err error) {
	var r capacity.Record
	if err := json.Unmarshal(record, &r); err != nil {
		return o, err
	}
	found, err := solve(&r)
	if err != nil {
		return o, err
	}
	x, ok := found[what]
	if !ok {
		return o, fmt.Errorf("has no %s", what)
	}
	return capacity.Origin{Value: x, Machine: r.Machine, Commit: r.Commit, Command: r.Command}, nil
}

// solve returns what the loads of a record say about each coefficient, in the
// units of coefficients.json. A role costs base + attempts·a + wins·w. Two loads
// differ in nothing but their wins, so that w is found clean of all else that a
// busy machine adds; a third has few of either.
//
// The load without players is not among them: a fleet that nobody plays with
// wakes less often, so its base is lower than the one that counts.
func solve(r *capacity.Record) (map[string]float64, error) {
	runs := map[string]*capacity.Run{}
	for i := range r.Runs {
		runs[r.Runs[i].Name] = &r.Runs[i]
	}
	for _, name := range []string{capacity.RunCrowd, capacity.RunSockets, capacity.RunLosing, capacity.RunWinning} {
		if runs[name] == nil {
			return nil, fmt.Errorf("has no run %s; want one of each of %s's loads", name, "make bench-plan")
		}
	}
	crowd, few, losing, winning := runs[capacity.RunCrowd], runs[capacity.RunSockets], runs[capacity.RunLosing], runs[capacity.RunWinning]
	type figure = func(*capacity.Run) float64
	slope := func(of figure) float64 {
		return max(0, (of(winning)-of(losing))/(winning.Load.WinsPerS()-losing.Load.WinsPerS()))
	}
	// Of a role that sees only what was won.
	follower := func(of figure) (base, win float64) {
		win = slope(of)
		return max(0, of(losing)-losing.Load.WinsPerS()*win), win
	}
	// Of one that sees every attempt, once its base is known.
	attempt := func(run *capacity.Run, base, win float64, of figure) float64 {
		return max(0, (of(run)-base-run.Load.WinsPerS()*win)/run.Load.Attempts)
	}
	gatewayBase, gatewayFold := follower(func(r *capacity.Run) float64 { return r.IdleGateway })
	serving := func(r *capacity.Run) float64 { // beside what both gateways follow
		return r.Usage.GatewayCores - float64(r.Processes.Gateways)*(gatewayBase+r.Load.WinsPerS()*gatewayFold)
	}
	won := slope(serving)
	frame, request := attempt(losing, 0, won, serving), attempt(crowd, 0, won, serving)
	claims := func(r *capacity.Run) float64 { return r.Usage.ClaimsCores }
	claimsWin := slope(claims)
	more := losing.Load.Attempts - few.Load.Attempts
	claimsAttempt := max(0, (claims(losing)-claims(few)-claimsWin*(losing.Load.WinsPerS()-few.Load.WinsPerS()))/more)
	claimsBase := max(0, claims(few)-few.Load.Attempts*claimsAttempt-few.Load.WinsPerS()*claimsWin)
	boardBase, boardWin := follower(func(r *capacity.Run) float64 { return r.Usage.LeaderboardCores })
	rewardsBase, rewardsWin := follower(func(r *capacity.Run) float64 { return r.Usage.RewardsCores })
	redis := func(r *capacity.Run) float64 { return r.Usage.RedisCores }
	perAppend := max(0, (redis(winning)-redis(losing))/(winning.Usage.Appends-losing.Usage.Appends))
	redisBase := max(0, redis(losing)-perAppend*losing.Usage.Appends)
	generator := losing.Usage.GeneratorCores
	perSecond := float64(losing.Load.Tiles) // at a tick of a second
	const µs = 1e6
	return map[string]float64{
		"gateway.idle": gatewayBase, "gateway.win": gatewayFold * µs, "gateway.frame": frame * µs, "gateway.request": request * µs, "gateway.won": won * µs,
		"claims.idle": claimsBase, "claims.attempt": claimsAttempt * µs, "claims.win": claimsWin * µs, "claims.standby": gatewayFold * µs,
		"leaderboard.idle": boardBase, "leaderboard.win": boardWin * µs, "rewards.idle": rewardsBase, "rewards.win": rewardsWin * µs,
		"generator.idle": generator / 2, "generator.tile": generator / 2 / perSecond * µs,
		"json.outcome": losing.Usage.DeliveredBytes / losing.Load.Attempts,
		"redis.append": perAppend * µs, "redis.process": redisBase / float64(losing.Processes.Sum()),
	}, nil
}
