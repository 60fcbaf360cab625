//go:build unix

package main

import (
	"context"
	"fmt"

	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/lab"
)

// running puts logs back while every process runs, which the document forbids:
// owners put back what they remember, as after a failover, or step down. What
// comes of that is told; stopping all and restoring again must mend it.
func (d *drills) running(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	r := d.begin("running", "logs put back while all processes run, which is wrong; then all stopped and restored again")
	backup, err := d.folder()
	if err != nil {
		return err
	}
	if _, err := d.playFor(ctx, func() error {
		if err := d.save(ctx, backup, "ledger-save"); err != nil {
			return err
		}
		return program.Sleep(ctx, playFor)
	}); err != nil {
		return err
	}
	before, err := d.settled(ctx)
	if err != nil {
		return err
	}
	if err := d.restoreLogs(ctx, backup); err != nil {
		return err
	}
	if err := program.Sleep(ctx, playFor); err != nil {
		return err
	}
	wrong, err := d.verify(ctx)
	if err != nil {
		return err
	}
	r.Note = fmt.Sprintf("while they ran: %d of %d claims in the logs, %d violations, %d of %d processes had ended",
		wrong.Claims, before.Claims, wrong.Total, d.ended(), len(d.fleet.Roles("")))
	program.Say("  %s; %s", r.Note, wrong.what())
	if err := d.end(ctx); err != nil {
		return err
	}
	if err := d.restore(ctx, backup, backup); err != nil {
		return err
	}
	restored, err := d.verify(ctx)
	if err != nil {
		return err
	}
	r.Lost, r.Behind = before.Claims-restored.Claims, restored.Ledger.Behind
	r.must(restored.OK, "restored again, and nobody has begun yet: %s", restored.what())
	if err := d.resume(ctx); err != nil {
		return err
	}
	_, err = d.finish(ctx, r)
	return err
}

// ended is how many processes of cairn do not run.
func (d *drills) ended() (n int) {
	for _, p := range d.fleet.Roles("") {
		if !p.Running() {
			n++
		}
	}
	return n
}

// end ends what runs of cairn, however it ends.
func (d *drills) end(ctx context.Context) error {
	for _, role := range lab.Roles {
		for _, p := range d.fleet.Roles(role) {
			if err := p.Terminate(ctx); err != nil {
				program.Say("  %s: %s", p.Name, lastLine(err.Error()))
			}
			if p.Running() {
				return fmt.Errorf("%s runs still", p.Name)
			}
		}
	}
	return nil
}
