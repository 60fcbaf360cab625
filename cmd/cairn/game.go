package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/control"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/leaderboard"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/mapgen"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/server"
	"github.com/veltrix/cairn/web"
)

// The files of a data folder.
const (
	logDir         = "log"
	ledgerFile     = "ledger.db"
	checkpointFile = "leaderboard.checkpoint"
)

// drainWithin bounds how long a process that was told to end still serves.
const drainWithin = 10 * time.Second

type gameOptions struct {
	dir        string
	ledger     ledgerFlag
	adminToken string
	guests     bool
	origins    []string
	shards     int
	limits     server.Limits
	retention  time.Duration
	log        *slog.Logger
}

// A game is every role of the system in one process, on one data folder.
//
// Its rooms end in two steps, so that a Ctrl-C loses nothing: first those that
// make facts (the edge, the generator, the claim service), then those that
// follow them, and the store last.
type game struct {
	opts    gameOptions
	keys    *keys
	store   *filelog.Store
	control *control.Control
	mapgen  *mapgen.Generator
	claims  *claim.Service
	hub     *broadcast.Hub
	boards  *leaderboard.Projection
	ledger  *ledger.Ledger
	server  *server.Server
	metrics *prometheus.Registry

	mapSeen atomic.Bool // every live hunt has had a map open at once
}

// openGame opens a data folder, making what is not there yet, and puts the
// rooms together. Nothing runs before [game.run].
func openGame(ctx context.Context, opts gameOptions) (*game, error) {
	if err := os.MkdirAll(opts.dir, 0o755); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	g := &game{opts: opts, metrics: prometheus.NewRegistry()}
	g.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	var err error
	if g.keys, err = loadKeys(opts.dir); err != nil {
		return nil, err
	}
	if g.store, err = filelog.Open(filepath.Join(opts.dir, logDir), filelog.Options{Log: opts.log, Metrics: g.metrics}); err != nil {
		return nil, err
	}
	if err := g.open(ctx); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *game) open(ctx context.Context) (err error) {
	specs := []eventlog.Spec{{Name: eventlog.Maps}, {Name: eventlog.Control}, {Name: eventlog.Standings, Volatile: true}}
	for i := range g.opts.shards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	if err := g.store.Provision(ctx, specs...); err != nil {
		return err
	}
	keeper := puzzle.New(g.keys.Puzzle)
	log, reg := g.opts.log, g.metrics
	if g.control, err = control.Open(ctx, g.store, control.Options{CheckHunt: checkHunt, Log: log, Metrics: reg}); err != nil {
		return err
	}
	if err := g.claimKeys(ctx); err != nil {
		return err
	}
	g.mapgen = mapgen.New(g.store, g.keys.Map, mapgen.Options{Shards: g.opts.shards, Log: log, Metrics: reg})
	g.claims = claim.New(g.store, keeper, claim.Options{Shards: g.opts.shards, Log: log, Metrics: reg})
	g.hub = broadcast.New(g.store, broadcast.Options{Log: log, Metrics: reg})
	g.boards = leaderboard.New(g.store, leaderboard.Options{Checkpoint: filepath.Join(g.opts.dir, checkpointFile), Log: log, Metrics: reg})
	if g.ledger, err = ledger.Open(ctx, g.opts.ledger.dsn(g.opts.dir), ledger.Options{Log: log, Metrics: reg}); err != nil {
		return err
	}
	page, err := fs.Sub(web.Dist, "dist")
	if err != nil {
		return err
	}
	rooms := server.Rooms{Control: g.control, Claims: g.claims, Hub: g.hub, Boards: g.boards, Rewards: g.ledger, Keeper: keeper}
	g.server, err = server.New(ctx, rooms, server.Options{
		Guests: g.opts.guests, TokenKey: g.keys.Token[:], Origins: g.opts.origins, Page: page, Limits: g.opts.limits,
		AdminToken: g.opts.adminToken, Version: version,
		Ready: g.checks(), Gatherer: reg, Metrics: reg, Log: log,
	})
	return err
}

// checkHunt reports what is wrong with a hunt's region beyond its form.
func checkHunt(h cairn.Hunt) error {
	_, err := mapgen.NewField(h)
	return err
}

// claimKeys holds this process's keys against those that the system runs on,
// and in a new system makes them its keys.
func (g *game) claimKeys(ctx context.Context) error {
	mine := g.keys.fingerprint()
	switch theirs := g.control.Key(); theirs {
	case mine:
		return nil
	case "":
		_, err := g.control.Do(ctx, cairn.Change{Who: "cairn up", Key: mine})
		return err
	default:
		return fmt.Errorf("the keys in %s are %s, but this system runs on %s: put its keys.json back, or start anew with another --data folder", g.opts.dir, mine, theirs)
	}
}

// checks are what /readyz asks. The ledger and the leaderboard lag without
// harm to a claim, so they are reported and fail nothing.
func (g *game) checks() []server.Check {
	return []server.Check{
		{Name: "claims", Ready: g.claims.Ready},
		{Name: "broadcast", Ready: g.hub.Ready},
		{Name: "map", Ready: g.mapOpen},
		{Name: "leaderboard", Ready: g.boards.Ready, Advisory: true},
		{Name: "ledger", Ready: g.ledgerReady, Advisory: true},
	}
}

// mapGrace is how late a map may open before /readyz says so.
const mapGrace = 3 * time.Second

// mapOpen returns nil once every live hunt has a map open, and from then on as
// long as none is overdue: a hunt that has just gone live, or one whose maps
// are open for a part of its tick, must not turn players away from the others.
func (g *game) mapOpen() error {
	if err := g.hub.Ready(); err != nil {
		return err // it knows of no hunt yet, which is not that there is none
	}
	now := cairn.InstantOf(time.Now())
	for _, h := range g.hub.Hunts() {
		if h.State != cairn.Live {
			continue
		}
		m, ok := g.hub.Current(h.Name, now)
		if ok && m.Closes > now {
			continue
		}
		due := h.Changed
		if ok {
			due = max(due, m.Opens)
		}
		due = due.Add(time.Duration(h.Tick) + mapGrace)
		if !g.mapSeen.Load() || now > due {
			return fmt.Errorf("hunt %s has no open map", h.Name)
		}
	}
	g.mapSeen.Store(true)
	return nil
}

func (g *game) close() {
	if g.ledger != nil {
		if err := g.ledger.Close(); err != nil {
			g.opts.log.Error("closing the ledger", "err", err)
		}
	}
	if err := g.store.Close(); err != nil {
		g.opts.log.Error("closing the log", "err", err)
	}
}

// run serves on two listeners until ctx ends or a room fails, then drains and
// closes the data folder. It returns nil after a clean drain.
func (g *game) run(ctx context.Context, public, admin net.Listener) error {
	defer g.close()
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	// Followers outlive those that make facts.
	following, stopFollowers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFollowers()
	var makers, followers sync.WaitGroup
	start := func(wg *sync.WaitGroup, ctx context.Context, what string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				g.opts.log.Error(what+" failed", "err", err)
				fail(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	start(&followers, following, "control", g.control.Run)
	start(&followers, following, "broadcast", g.hub.Run)
	start(&followers, following, "leaderboard", g.boards.Run)
	start(&followers, following, "ledger", func(ctx context.Context) error { return g.ledger.Run(ctx, g.store) })
	start(&followers, following, "retention", newRetention(g).run)

	making, stopMakers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopMakers()
	start(&makers, making, "claims", g.claims.Run)
	start(&makers, making, "generator", g.mapgen.Run)

	var edge sync.WaitGroup
	serve := server.ServeOptions{DrainWithin: drainWithin, OnDrain: g.server.Drain, Log: g.opts.log}
	start(&edge, failed, "public listener", func(ctx context.Context) error { return server.Serve(ctx, public, g.server.Public(), serve) })
	start(&edge, failed, "operator's listener", func(ctx context.Context) error { return server.Serve(ctx, admin, g.server.Admin(), serve) })

	<-failed.Done()
	g.opts.log.Info("draining: nobody new is taken, what is in flight gets its answer")
	g.hub.Drain(drainWithin / 5)
	edge.Wait()
	stopMakers()
	makers.Wait()
	g.settle()
	stopFollowers()
	followers.Wait()
	g.opts.log.Info("stopped")
	if err := context.Cause(failed); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// settle waits until the ledger has all that was claimed, unless something
// keeps it from that: then the next start settles the rest.
func (g *game) settle() {
	for over := time.Now().Add(drainWithin / 2); g.ledger.Lag() > 0 && g.ledger.Ready() == nil && time.Now().Before(over); {
		time.Sleep(5 * time.Millisecond)
	}
}
