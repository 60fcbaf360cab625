//go:build unix

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/lab"
)

// roll ends and starts every process, one after the other, while players play.
func (d *drills) roll(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	r := d.begin("roll", "every process of every role ended by SIGTERM and started anew, one after the other, under load")
	g, err := d.play(ctx)
	if err != nil {
		return err
	}
	err = program.Sleep(ctx, playFor)
	for _, role := range lab.Roles {
		for _, p := range d.fleet.Roles(role) {
			if err == nil {
				err = rollOne(ctx, g, p)
			}
		}
	}
	g.stop()
	if err != nil {
		return err
	}
	c := g.counts()
	r.Attempts, r.Failed = c.Won+c.Gone+c.Closed+c.Unknown, c.Undecided()+c.GivenUp
	r.must(r.Failed == 0, "%d tries failed: %+v", r.Failed, c)
	r.must(c.Won > 0, "nothing was won")
	v, err := d.settled(ctx)
	if err != nil {
		return err
	}
	r.verified(v)
	return nil
}

// rollOne rolls one process. A gateway is taken out of the balancer first.
func rollOne(ctx context.Context, g *game, p *lab.Role) error {
	if p.Role == "gateway" {
		g.away.Store(p)
		defer g.away.Store(nil)
	}
	if err := p.Terminate(ctx); err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil {
		return err
	}
	if err := p.AwaitReady(ctx); err != nil {
		return err
	}
	program.Say("  %s was rolled", p.Name)
	return program.Sleep(ctx, time.Second) // so that it takes its part before the next goes
}

// trimmed restores a ledger that is older than what the logs hold still, which
// only a newer one mends.
func (d *drills) trimmed(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	r := d.begin("trimmed", "a ledger older than what a log still holds: halted; then a newer ledger")
	old, err := d.folder()
	if err != nil {
		return err
	}
	newer, err := d.folder()
	if err != nil {
		return err
	}
	if _, err := d.do(ctx, "ledger-save", old); err != nil {
		return err
	}
	if _, err := d.playFor(ctx, nil); err != nil {
		return err
	}
	if _, err := d.settled(ctx); err != nil {
		return err
	}
	if _, err := d.do(ctx, "ledger-save", newer); err != nil {
		return err
	}
	// What --retention does in hours.
	if err := d.trim(ctx, "s00"); err != nil {
		return err
	}
	if err := d.mend(ctx, r, old); err != nil {
		return err
	}
	if r.Halted, err = d.halted(ctx, "restore a newer ledger"); err != nil {
		return err
	}
	if err := d.mend(ctx, r, newer); err != nil {
		return err
	}
	r.Note = fmt.Sprintf("before: %d shard halted", r.Halted)
	v, err := d.settled(ctx)
	if err != nil {
		return err
	}
	r.Claims, r.Entries, r.Verify = v.Claims, v.Ledger.Entries, "ok"
	r.must(v.OK, "cairn verify: %s", v.what())
	return nil
}

// trim keeps the last records of a log only.
func (d *drills) trim(ctx context.Context, log string) error {
	for _, n := range d.fleet.Redis.Nodes {
		reply, err := n.Do(ctx, "KEYS", "cairn:{"+log+"*}:log")
		if err != nil {
			return err
		}
		keys, err := reply.AsStrSlice()
		if err != nil {
			return err
		}
		for _, key := range keys {
			if _, err := n.Do(ctx, "XTRIM", key, "MAXLEN", "=", "2"); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasLine reports whether a text has a line.
func hasLine(text, line string) bool {
	return strings.Contains("\n"+strings.ReplaceAll(text, "\r", ""), "\n"+line+"\n")
}
