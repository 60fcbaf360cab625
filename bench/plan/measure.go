//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/capacity"
	"github.com/veltrix/cairn/internal/lab"
)

const (
	shards  = 24
	tiles   = 2500
	players = 800
	// triesMax is how often a load is tried: on a machine that did something
	// else meanwhile attempts may fail.
	triesMax = 3
	warm     = 4 * time.Second // from the load's start until it is steady
)

// A phase is one load.
type phase struct {
	name  string
	rate  float64 // attempts a second
	crowd int     // players that try each tile; 0: they claim on WebSockets
	conns int     // sockets that watch the world
	tiles int     // of each map that those on WebSockets try, by chance
}

// phases each show one thing; the last one is the check.
var phases = []phase{
	{capacity.RunIdle, 0, 1, 0, 0},
	{capacity.RunWins, 1000, 1, 1, 0},
	{capacity.RunCrowd, 2000, 8, 1, 0},
	{capacity.RunSockets, 200, 1, 800, 0},
	{capacity.RunLosing, 3000, 0, 0, tiles / 10},
	{capacity.RunWinning, 3000, 0, 0, tiles},
	{capacity.RunCheck, 1200, 3, 300, 0},
}

// The fleet: of two gateways one serves, so that the other shows what one costs
// that serves nobody.
var fleet = capacity.Processes{Generators: 1, Claims: 1, Gateways: 2, Leaderboards: 1, Rewards: 1}

// measure starts the fleet and puts each load's figures into rec.
func measure(ctx context.Context, o options, rec *capacity.Record) (err error) {
	l, err := lab.New(lab.Options{Bin: o.bin})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	hunt := fmt.Sprintf("name: bench\nregion: {geohash: u4}\nmask: none\nshards: %d\ntiles_per_map: %d\nlifetime: 5s\nreward: {min: 1, max: 1000, budget: 1000000000000}\n", shards, tiles)
	fmt.Fprintln(os.Stderr, "starting Redis, PostgreSQL and a fleet …")
	f, err := l.StartFleet(ctx, lab.Spec{
		Generators: fleet.Generators, Claims: fleet.Claims, Gateways: fleet.Gateways, Leaderboards: fleet.Leaderboards, Rewards: fleet.Rewards,
		Redis: lab.ClusterOptions{Primaries: 3}, Ack: "primary", Hunts: []string{hunt},
	})
	if err != nil {
		return err
	}
	for _, p := range phases {
		p.rate *= o.scale
		p.conns = int(float64(p.conns) * o.scale)
		run, err := one(ctx, f, p, o.window)
		for tries := 1; err != nil && ctx.Err() == nil && tries < triesMax; tries++ {
			fmt.Fprintf(os.Stderr, "%s: again, for it counts only if nothing failed: %v\n", p.name, err)
			run, err = one(ctx, f, p, o.window)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		rec.Runs = append(rec.Runs, *run)
		fmt.Fprintf(os.Stderr, "%-8s %5.0f attempts/s, %5.0f wins/s, %6.0f deliveries/s; cores: gateways %.3f, claims %.3f, Redis %.3f\n",
			p.name, run.Load.Attempts, run.Load.WinsPerS(), run.Usage.Deliveries, run.Usage.GatewayCores, run.Usage.ClaimsCores, run.Usage.RedisCores)
	}
	return nil
}

// one runs one load and returns what was used in its middle.
func one(ctx context.Context, f *lab.Fleet, p phase, window time.Duration) (*capacity.Run, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	switch target := "http://" + f.Roles("gateway")[0].Listen; {
	case p.rate == 0:
		done <- nil
	case p.crowd == 0:
		playing, stop := context.WithCancel(ctx)
		defer stop()
		time.AfterFunc(warm+window+2*time.Second, stop)
		go func() { done <- frames(playing, target, p.rate, p.tiles) }() // is waited for below
	default:
		bin, err := f.Lab.Build(ctx)
		if err != nil {
			return nil, err
		}
		load := exec.CommandContext(ctx, bin, "load", "--target", target, "--rate", fmt.Sprint(p.rate), "--crowd", strconv.Itoa(p.crowd),
			"--connections", strconv.Itoa(max(1, p.conns)), "--players", strconv.Itoa(players), "--for", (warm + window + 2*time.Second).String(), "--json")
		load.Stderr = os.Stderr
		if err := load.Start(); err != nil {
			return nil, err
		}
		go func() { done <- load.Wait() }() // is waited for below: the context ends it
	}
	before, after, err := around(ctx, f, window)
	if err != nil {
		cancel()
		return nil, errors.Join(err, <-done)
	}
	if err := <-done; err != nil {
		return nil, fmt.Errorf("cairn load: %w", err)
	}
	return reckon(p, before, after), nil
}

// around reads what the fleet has used, before and after the window.
func around(ctx context.Context, f *lab.Fleet, window time.Duration) (before, after *reading, err error) {
	if err := program.Sleep(ctx, warm); err != nil {
		return nil, nil, err
	}
	if before, err = read(ctx, f); err != nil {
		return nil, nil, err
	}
	if err := program.Sleep(ctx, window); err != nil {
		return nil, nil, err
	}
	after, err = read(ctx, f)
	return before, after, err
}

// reckon returns the load as a plan would have it, and the usage.
func reckon(p phase, before, after *reading) *capacity.Run {
	seconds := after.at.Sub(before.at).Seconds()
	rate := func(of func(*reading) float64) float64 { return (of(after) - of(before)) / seconds }
	cpu := func(role string) float64 {
		return rate(func(r *reading) float64 { return r.sum(role, "process_cpu_seconds_total") })
	}
	total := func(role, name string, labels ...string) float64 {
		return rate(func(r *reading) float64 { return r.sum(role, name, labels...) })
	}
	load := capacity.DefaultLoad()
	load.Players, load.Connections = players, p.conns
	load.Attempts = total("claims", "cairn_claims_total")
	if load.Wins = 0; load.Attempts > 0 {
		load.Wins = total("claims", "cairn_claims_total", "outcome", "won") / load.Attempts
	}
	if load.Over = "http"; p.crowd == 0 {
		load.Over = "socket"
	}
	load.Tiles, load.Lifetime, load.Shards = tiles, cairn.Duration(5*time.Second), shards
	load.Regions, load.InView, load.Ack, load.Replicas = 1, 1, "primary", 0
	return &capacity.Run{
		Name: p.name, Seconds: seconds, Load: load, Processes: fleet, Shards: shards,
		IdleGateway: rate(func(r *reading) float64 { return r.one("gateway-2", "process_cpu_seconds_total") }),
		Usage: capacity.Usage{
			GatewayCores: cpu("gateway"), ClaimsCores: cpu("claims"), LeaderboardCores: cpu("leaderboard"), RewardsCores: cpu("rewards"), GeneratorCores: cpu("generator"),
			RedisCores:     rate(func(r *reading) float64 { return r.redis }),
			Deliveries:     total("gateway", "cairn_broadcast_deliveries_total"),
			DeliveredBytes: total("gateway", "cairn_broadcast_delivered_bytes_total"),
			LogBytes:       total("claims", "cairn_append_bytes_total") + total("generator", "cairn_append_bytes_total"),
			Appends:        total("claims", "cairn_append_duration_seconds", "log", "durable"),
		},
	}
}
