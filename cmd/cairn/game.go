package main

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/control"
	"github.com/veltrix/cairn/internal/eventlog"
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
	redis      logFlag // the logs' Redis; without --log they are in dir
	ledger     ledgerFlag
	adminToken string
	guests     bool
	origins    []string
	shards     int
	limits     server.Limits
	admission  server.Admission
	traces     tracesFlag
	edgeTraces edgeTraceFlags
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
	store   eventlog.Store
	control *control.Control
	mapgen  *mapgen.Generator
	claims  *claim.Service
	hub     *broadcast.Hub
	boards  *leaderboard.Projection
	ledger  *ledger.Ledger
	server  *server.Server
	metrics *prometheus.Registry
	traces  *traces

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
	if g.traces, err = opts.traces.begin(ctx, "up", "up", opts.log, g.metrics); err != nil {
		return nil, err
	}
	if g.store, err = openStore(ctx, opts, g.metrics); err != nil {
		g.traces.close()
		return nil, err
	}
	if err := g.open(ctx); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *game) open(ctx context.Context) (err error) {
	if err := g.provision(ctx); err != nil {
		return err
	}
	keeper := puzzle.New(g.keys.Puzzle)
	log, reg := g.opts.log, g.metrics
	if g.control, err = control.Open(ctx, g.store, control.Options{CheckHunt: checkHunt, Log: log, Metrics: reg}); err != nil {
		return err
	}
	if err := claimKeys(ctx, g.control, g.keys, "cairn up", g.opts.dir); err != nil {
		return err
	}
	g.mapgen = mapgen.New(g.store, g.keys.Map, mapgen.Options{Shards: g.opts.shards, Log: log, Metrics: reg})
	g.claims = claim.New(g.store, keeper, claim.Options{Shards: g.opts.shards, Log: log, Metrics: reg, Tracer: g.traces.tracer})
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
		Guests: g.opts.guests, TokenKey: g.keys.Token[:], Origins: g.opts.origins, Page: page, Limits: g.opts.limits, Admission: g.opts.admission,
		AdminToken: g.opts.adminToken, Version: version, Traces: g.opts.edgeTraces.edge(g.traces),
		Ready: g.checks(), Gatherer: reg, Metrics: reg, Log: log,
	})
	return err
}

// checkHunt reports what is wrong with a hunt's region beyond its form.
func checkHunt(h cairn.Hunt) error {
	_, err := mapgen.NewField(h)
	return err
}

// checks are what /readyz asks. The ledger and the leaderboard lag without
// harm to a claim, so they are reported and fail nothing.
func (g *game) checks() []server.Check {
	return []server.Check{
		{Name: "claims", Ready: g.claims.Ready},
		{Name: "broadcast", Ready: g.hub.Ready},
		{Name: "map", Ready: func() error { return mapOpen(g.hub, &g.mapSeen) }},
		{Name: "leaderboard", Ready: g.boards.Ready, Advisory: true},
		{Name: "ledger", Ready: g.ledgerReady, Advisory: true},
	}
}

func (g *game) close() {
	defer g.traces.close()
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
func (g *game) run(ctx context.Context, public []net.Listener, admin net.Listener) error {
	defer g.close()
	p := newParts(ctx, g.opts.log)
	defer p.fail(nil)

	followers := p.stage() // outlive those that make facts
	defer followers.stop()
	followers.start("control", g.control.Run)
	followers.start("broadcast", g.hub.Run)
	followers.start("leaderboard", g.boards.Run)
	followers.start("ledger", func(ctx context.Context) error { return g.ledger.Run(ctx, g.store) })
	followers.start("retention", g.retention().run)

	makers := p.stage()
	defer makers.stop()
	makers.start("claims", g.claims.Run)
	makers.start("generator", func(ctx context.Context) error { return generate(ctx, g.mapgen, g.opts.log) })

	edge := serveEdge(p, public, admin, g.server)
	<-p.ctx.Done()
	g.opts.log.Info("draining: nobody new is taken, what is in flight gets its answer")
	g.hub.Drain(drainWithin / 5)
	edge.wg.Wait()
	makers.stop()
	g.settle()
	followers.stop()
	g.opts.log.Info("stopped")
	return p.err()
}

// retention returns what trims the game's logs.
func (g *game) retention() *retention {
	return &retention{store: g.store, shards: g.opts.shards, keep: g.opts.retention, settled: g.ledger.Settled, durable: g.boards.Durable, log: g.opts.log, metrics: newRetentionMetrics(g.metrics)}
}

// settle waits until the ledger has all that was claimed, unless something
// keeps it from that: then the next start settles the rest.
func (g *game) settle() {
	for over := time.Now().Add(drainWithin / 2); g.ledger.Lag() > 0 && g.ledger.Ready() == nil && time.Now().Before(over); {
		time.Sleep(5 * time.Millisecond)
	}
}
