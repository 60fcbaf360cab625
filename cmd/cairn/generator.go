package main

import (
	"context"
	"log/slog"

	"github.com/veltrix/cairn/internal/fleet"
	"github.com/veltrix/cairn/internal/mapgen"
	"github.com/veltrix/cairn/internal/server"
)

type generatorCmd struct {
	roleFlags
	keysFlag
}

// Run emits maps while this process is the one of its role that does; the
// others stand by.
func (c generatorCmd) Run(p *program) error {
	r, err := c.open(p, fleet.RoleGenerator, nil)
	if err != nil {
		return err
	}
	defer r.close()
	k, _, err := r.keyed(p.ctx, c.keysFlag)
	if err != nil {
		return err
	}
	leader, err := fleet.NewLeader(r.reg, fleet.RoleGenerator, r.member(nil))
	if err != nil {
		return err
	}
	gen := mapgen.New(r.store, k.Map, mapgen.Options{Shards: r.shards, Log: r.log, Metrics: r.metrics})
	ps := newParts(p.ctx, r.log)
	defer ps.fail(nil)
	ops := r.serveOps(ps, server.Check{Name: "fleet", Ready: leader.Ready})
	defer ops.stop()
	work := ps.stage()
	work.start("generator", func(ctx context.Context) error {
		return leader.Run(ctx, func(ctx context.Context) error { return generate(ctx, gen, r.log) })
	})
	r.greet(p, nil)
	<-ps.ctx.Done()
	work.stop()
	return ps.err()
}

// generate emits maps until ctx ends, another generator takes over, or the logs
// are beyond help.
func generate(ctx context.Context, g *mapgen.Generator, log *slog.Logger) error {
	return revive(ctx, log, "generator", g.Run)
}
