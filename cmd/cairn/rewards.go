package main

import (
	"context"

	"github.com/veltrix/cairn/internal/fleet"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/server"
)

type rewardsCmd struct {
	roleFlags
	ledgerFlag
}

// Run settles what the shards that fall to this process hold.
func (c rewardsCmd) Run(p *program) error {
	if err := c.ledgerFlag.required(); err != nil {
		return err
	}
	r, err := c.open(p, fleet.RoleRewards, nil)
	if err != nil {
		return err
	}
	defer r.close()
	part, err := fleet.NewPartition(r.reg, fleet.RoleRewards, r.shards, r.member(nil))
	if err != nil {
		return err
	}
	led := &database{dsn: c.Ledger, opts: ledger.Options{Shards: part, Log: r.log, Metrics: r.metrics}, log: r.log}
	defer led.close()
	ps := newParts(p.ctx, r.log)
	defer ps.fail(nil)
	ops := r.serveOps(ps, server.Check{Name: "fleet", Ready: part.Ready}, server.Check{Name: "ledger", Ready: led.ready, Advisory: true})
	defer ops.stop()
	settling := ps.stage()
	settling.start("ledger", func(ctx context.Context) error {
		l, err := led.await(ctx)
		if err != nil {
			return err
		}
		return l.Run(ctx, r.store)
	})
	member := ps.stage()
	member.start("fleet", part.Run)
	r.greet(p, nil)
	<-ps.ctx.Done()
	settling.stop() // what is read and not committed, the next reads again
	member.stop()
	return ps.err()
}
