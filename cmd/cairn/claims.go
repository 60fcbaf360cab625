package main

import (
	"context"

	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/fleet"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/server"
)

type claimsCmd struct {
	roleFlags
	keysFlag
	peerFlag
	tracesFlag
}

// Run owns the shards that fall to this process, and keeps the others warm.
// When it is told to end it hands over what it owns before it goes.
func (c claimsCmd) Run(p *program) error {
	r, err := c.open(p, fleet.RoleClaims, &c.peerFlag)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.trace(p.ctx, c.tracesFlag); err != nil {
		return err
	}
	k, _, err := r.keyed(p.ctx, c.keysFlag)
	if err != nil {
		return err
	}
	service := claim.New(r.store, puzzle.New(k.Puzzle), claim.Options{Shards: r.shards, Standby: true, Log: r.log, Metrics: r.metrics, Tracer: r.traces.tracer})
	owner, err := fleet.NewOwner(service, r.reg, fleet.OwnerOptions{Name: r.name, Addr: r.addr, Log: r.log, Metrics: r.metrics, Tracer: r.traces.tracer})
	if err != nil {
		return err
	}
	ps := newParts(p.ctx, r.log)
	defer ps.fail(nil)
	ops := r.serveOps(ps, server.Check{Name: "claims", Ready: owner.Ready})
	defer ops.stop()
	serving := ps.stage()
	defer serving.stop()
	serving.start("claims", service.Run)
	r.servePeer(serving, owner.Handler())
	member := ps.stage()
	defer member.stop()
	member.start("fleet", owner.Run)
	r.greet(p, nil)
	<-ps.ctx.Done()
	r.log.Info("draining: shards are handed over")
	within, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), drainWithin)
	defer cancel()
	owner.Drain(within)
	member.stop()
	serving.stop()
	r.log.Info("stopped")
	return ps.err()
}
