//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn/bench/chaos/play"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/lab"
)

const (
	huntName = "drill"
	tick     = time.Second
	lifetime = 5 * time.Second
	shards   = 12
)

// start starts the fleet, unless a drill before did.
func (d *drills) start(ctx context.Context) (err error) {
	if d.fleet != nil {
		return nil
	}
	program.Say("a fleet starts: 3 Redis primaries, PostgreSQL, two of each role")
	d.fleet, err = d.lab.StartFleet(ctx, lab.Spec{
		ShardsMax: shards,
		Hunts: []string{fmt.Sprintf("name: %s\nregion: {geohash: u4}\nmask: none\ntiles_per_map: %d\ntick: %v\nlifetime: %v\nshards: %d\npuzzles: {tap: 1}\nreward: {min: 1, max: 1000, budget: 1000000000000}\n",
			huntName, int(d.o.rate*3/2)+50, tick, lifetime, shards)},
		Args: map[string][]string{"gateway": {"--claim-rate", "1000000", "--claim-burst", "1000000"}},
	})
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(d.fleet.Ledger.Addr)
	d.env = []string{
		"CAIRN_LOG=" + d.fleet.Redis.URL(), "CAIRN_LEDGER=" + d.fleet.Ledger.DSN(), "PGHOST=" + host, "PGPORT=" + port, "PGUSER=cairn",
		"LEADERBOARD_DATA=" + d.leaderboard(1),
	}
	return err
}

// leaderboard is the data folder of a leaderboard process.
func (d *drills) leaderboard(n int) string {
	return filepath.Join(d.lab.Dir, fmt.Sprintf("leaderboard-%d", n))
}

// A game is players at play.
type game struct {
	*play.Play
	began time.Time
	stop  func()
	away  atomic.Pointer[lab.Role] // the gateway that a balancer would not send to now
}

// play has players play until stop, which waits until they have their answers.
func (d *drills) play(ctx context.Context) (*game, error) {
	g := new(game)
	gateways := d.fleet.Roles("gateway")
	p, err := play.New(ctx, play.Options{
		Hunt: huntName, Tick: tick, Lifetime: lifetime, Players: 32, Rate: d.o.rate, Again: 0.1, Seed: 1,
		Gateways: func() (bases []string) {
			for _, r := range gateways {
				if r != g.away.Load() {
					bases = append(bases, "http://"+r.Listen)
				}
			}
			return bases
		},
	})
	if err != nil {
		return nil, err
	}
	g.Play, g.began = p, time.Now()
	playing, stop := context.WithCancel(ctx)
	var players sync.WaitGroup
	players.Go(func() { p.Run(playing, ctx) })
	g.stop = func() { stop(); players.Wait() }
	if err := p.AwaitMap(ctx); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

// counts is what came of all tries.
func (g *game) counts() play.Counts {
	c, _ := g.Touching(g.began.Add(-time.Second), time.Now().Add(time.Second))
	return c
}

// playFor has players play for a while, and f done behind it while they do.
func (d *drills) playFor(ctx context.Context, f func() error) (play.Counts, error) {
	g, err := d.play(ctx)
	if err != nil {
		return play.Counts{}, err
	}
	if err = program.Sleep(ctx, playFor); err == nil && f != nil {
		err = f()
	}
	g.stop()
	return g.counts(), err
}

// verify has cairn verify the fleet, whatever it says.
func (d *drills) verify(ctx context.Context) (*verified, error) {
	return parseVerified(d.fleet.Verify(ctx))
}

// settled waits until the ledger has all, and has it verified.
func (d *drills) settled(ctx context.Context) (v *verified, err error) {
	err = until(ctx, "the ledger has every claim", func() (bool, error) {
		v, err = d.verify(ctx)
		return err == nil && v.OK && v.Ledger.Behind == 0, err
	})
	if v != nil && err != nil {
		program.Say("  verify: %d violations, the first %q; %d claims behind", v.Total, v.what(), v.Ledger.Behind)
	}
	if v != nil {
		return v, nil // what is wrong with it is in it
	}
	return nil, err
}

// folder is a new folder for a backup, as what the document's commands expect.
func (d *drills) folder() (env string, err error) {
	d.backup++
	dir, err := d.lab.Folder(fmt.Sprintf("backup-%d", d.backup))
	return "BACKUP=" + dir, err
}

// saveLogs saves the logs, and who has which slots.
func (d *drills) saveLogs(ctx context.Context, backup string) error {
	if _, err := d.do(ctx, "logs-save", backup); err != nil {
		return err
	}
	for _, n := range d.fleet.Redis.Nodes {
		if _, err := d.do(ctx, "node-save", backup, "NODE="+n.Addr, "REDIS_DIR="+d.redisDir(n)); err != nil {
			return err
		}
	}
	return nil
}

func (d *drills) redisDir(n *lab.Redis) string { return filepath.Join(d.lab.Dir, n.Name) }

// save saves parts that follow the logs, by their blocks, and then the logs.
func (d *drills) save(ctx context.Context, backup string, parts ...string) error {
	for _, part := range parts {
		if _, err := d.do(ctx, part, backup); err != nil {
			return err
		}
	}
	return d.saveLogs(ctx, backup)
}

// restore restores the logs, and the ledger of another backup or of the same.
func (d *drills) restore(ctx context.Context, logs, ledger string) error {
	if err := d.restoreLogs(ctx, logs); err != nil {
		return err
	}
	_, err := d.do(ctx, "ledger-restore", ledger)
	return err
}

// restoreLogs destroys every node's data and puts back what was saved. Every
// process of cairn has been stopped.
func (d *drills) restoreLogs(ctx context.Context, backup string) error {
	for _, n := range d.fleet.Redis.Nodes {
		if err := errors.Join(n.Kill(), os.RemoveAll(d.redisDir(n)), os.MkdirAll(d.redisDir(n), 0o755)); err != nil {
			return err
		}
	}
	for _, n := range d.fleet.Redis.Nodes {
		if _, err := d.do(ctx, "node-restore", backup, "NODE="+n.Addr, "REDIS_DIR="+d.redisDir(n)); err != nil {
			return err
		}
		if err := n.Restart(ctx); err != nil {
			return err
		}
	}
	return until(ctx, "the Cluster serves all slots", func() (bool, error) {
		for _, n := range d.fleet.Redis.Nodes {
			reply, err := n.Do(ctx, "CLUSTER", "INFO")
			if err != nil {
				return false, err
			}
			if text, err := reply.ToString(); err != nil || !hasLine(text, "cluster_state:ok") || !hasLine(text, "cluster_slots_ok:16384") {
				return false, err
			}
		}
		_, err := d.fleet.Cairn(ctx, "log", "status", "--log", d.fleet.Redis.URL())
		return err == nil, err
	})
}

// stop ends the processes of some roles in good order; all of them without any.
func (d *drills) stop(ctx context.Context, roles ...string) error {
	if len(roles) == 0 {
		return d.fleet.Drain(ctx)
	}
	var stops errgroup.Group
	for _, role := range roles {
		for _, r := range d.fleet.Roles(role) {
			stops.Go(func() error { return r.Stop(ctx) })
		}
	}
	return stops.Wait()
}

// resume starts every process that does not run, and waits until all are ready.
func (d *drills) resume(ctx context.Context) error {
	var starts errgroup.Group
	for _, r := range d.fleet.Roles("") {
		if !r.Running() {
			starts.Go(func() error { return r.Start(ctx) })
		}
	}
	if err := starts.Wait(); err != nil {
		return err
	}
	return d.fleet.AwaitReady(ctx)
}
