package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/fleet"
	"github.com/veltrix/cairn/internal/leaderboard"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/server"
)

type leaderboardCmd struct {
	roleFlags
	ledgerFlag
	peerFlag
	Data      string        `help:"Folder of the checkpoint." default:"cairn-leaderboard" type:"path"`
	Retention time.Duration `help:"How long settled records stay in the logs." default:"6h"`
}

// observeEvery is how often the state of Redis is exported.
const observeEvery = 5 * time.Second

// Run folds the shards' logs and answers gateways; one of its role publishes
// the boards and trims the logs.
func (c leaderboardCmd) Run(p *program) error {
	if err := c.check(); err != nil {
		return err
	}
	r, err := c.open(p, fleet.RoleLeaderboard, &c.peerFlag)
	if err != nil {
		return err
	}
	defer r.close()
	var boards *leaderboard.Projection
	leader, err := fleet.NewLeader(r.reg, fleet.RoleLeaderboard, r.member(func() error { return boards.Ready() }))
	if err != nil {
		return err
	}
	peers := fleet.NewBoards(r.reg, fleet.BoardsOptions{Self: r.name, Log: r.log})
	boards = leaderboard.New(r.store, leaderboard.Options{
		Checkpoint: filepath.Join(c.Data, checkpointFile), Leader: leader, Fetch: peers.Checkpoint, Log: r.log, Metrics: r.metrics,
	})
	led := &database{dsn: c.Ledger, opts: ledger.Options{ReadOnly: true, Log: r.log}, log: r.log}
	defer led.close()
	trim := &retention{
		store: r.store, shards: r.shards, keep: c.Retention, durable: boards.Durable, on: leader.Leads, log: r.log, metrics: newRetentionMetrics(r.metrics),
		settled: func(ctx context.Context) (map[int]eventlog.Offset, error) {
			l, err := led.ledger()
			if err != nil {
				return nil, err // then nothing is trimmed
			}
			return l.Settled(ctx)
		},
	}
	ps := newParts(p.ctx, r.log)
	defer ps.fail(nil)
	ops := r.serveOps(ps, server.Check{Name: "fleet", Ready: leader.Ready}, server.Check{Name: "leaderboard", Ready: boards.Ready})
	defer ops.stop()
	folding := ps.stage()
	defer folding.stop()
	folding.start("peers", peers.Run)
	folding.start("leaderboard", boards.Run)
	r.servePeer(folding, fleet.BoardsHandler(boards))
	folding.start("ledger", func(ctx context.Context) error {
		_, err := led.await(ctx)
		return err
	})
	folding.start("retention", trim.run)
	folding.start("a look at Redis", func(ctx context.Context) error { return r.store.Observe(ctx, r.metrics, observeEvery) })
	member := ps.stage()
	member.start("fleet", func(ctx context.Context) error { return leader.Run(ctx, nil) })
	r.greet(p, nil)
	<-ps.ctx.Done()
	member.stop()
	return ps.err()
}

func (c leaderboardCmd) check() error {
	if err := c.ledgerFlag.required(); err != nil {
		return err
	}
	if c.Retention < retentionMin {
		return usagef("--retention: is %v; want %v or more: a map may be open for an hour, and its holders are known ten minutes longer", c.Retention, retentionMin)
	}
	if err := os.MkdirAll(c.Data, 0o755); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	return nil
}
