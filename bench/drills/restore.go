//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/program"
)

// whole saves a fleet while players play, in the document's order, destroys
// all stores and restores them.
func (d *drills) whole(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	r := d.begin("fleet", "all parts saved under load in the order above, all stores destroyed, restored, played on")
	backup, err := d.folder()
	if err != nil {
		return err
	}
	_, err = d.playFor(ctx, func() error {
		if err := until(ctx, "there is a checkpoint", func() (bool, error) { return exists(d.leaderboard(1), "leaderboard.checkpoint") }); err != nil {
			return err
		}
		began := time.Now()
		if err := d.save(ctx, backup, "ledger-save", "checkpoint-save"); err != nil {
			return err
		}
		r.Saved = seconds(began)
		return program.Sleep(ctx, playFor) // what is told now is lost
	})
	if err != nil {
		return err
	}
	before, err := d.settled(ctx)
	if err != nil {
		return err
	}
	if err := d.stop(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := d.restore(ctx, backup, backup); err != nil {
		return err
	}
	for n := range 2 {
		if _, err := d.do(ctx, "checkpoint-restore", backup, "LEADERBOARD_DATA="+d.leaderboard(n+1)); err != nil {
			return err
		}
	}
	restored, err := d.verify(ctx)
	if err != nil {
		return err
	}
	r.Lost, r.Behind = before.Claims-restored.Claims, restored.Ledger.Behind
	r.must(restored.OK, "restored, and nobody has begun yet: %s", restored.what())
	if err := d.resume(ctx); err != nil {
		return err
	}
	r.Restored = seconds(began)
	won, err := d.finish(ctx, r)
	if err != nil {
		return err
	}
	r.must(r.Claims >= restored.Claims+won, "%d claims were restored and %d won since, and there are %d", restored.Claims, won, r.Claims)
	out, err := d.do(ctx, "check")
	r.must(err == nil, "the document's check: %v", err)
	program.Say("  %s", lastLine(out))
	return nil
}

func exists(dir, file string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil, nil
}

// wrongOrder restores logs that are older than the ledger and the checkpoints.
// The shards must halt and say what mends it, and pay nothing.
func (d *drills) wrongOrder(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	r := d.begin("wrong-order", "logs older than ledger and checkpoint: halted, played on; then the ledger that was saved before the logs")
	right, err := d.folder()
	if err != nil {
		return err
	}
	wrong, err := d.folder()
	if err != nil {
		return err
	}
	if _, err := d.playFor(ctx, func() error {
		if err := d.save(ctx, right, "ledger-save"); err != nil {
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
	program.Say("  settled: %d claims", before.Claims)
	if err := d.stop(ctx); err != nil {
		return err
	}
	program.Say("  all of cairn is stopped")
	if _, err := d.do(ctx, "ledger-save", wrong); err != nil {
		return err
	}
	if err := d.restore(ctx, right, wrong); err != nil {
		return err
	}
	bad, err := d.verify(ctx)
	if err != nil {
		return err
	}
	program.Say("  the logs and the wrong ledger are back")
	r.Lost = before.Claims - bad.Claims
	r.must(!bad.OK, "cairn verify is content with a ledger that is ahead of its logs")
	program.Say("  verify: %s", bad.what())
	if err := d.resume(ctx); err != nil {
		return err
	}
	const advice = "restore a ledger that was saved before this log was"
	if r.Halted, err = d.halted(ctx, advice); err != nil {
		return err
	}
	if _, err := d.playFor(ctx, nil); err != nil { // tiles of the lost time may be won again; nobody is paid
		return err
	}
	paid, err := d.verify(ctx)
	if err != nil {
		return err
	}
	r.must(r.Halted > 0, "no shard is halted")
	if r.Halted == shards {
		r.must(paid.Ledger.Entries == bad.Ledger.Entries, "%d entries were written to a ledger that does not fit", paid.Ledger.Entries-bad.Ledger.Entries)
	}
	began := time.Now()
	if err := d.mend(ctx, r, right); err != nil {
		return err
	}
	r.Restored = seconds(began)
	r.Note = fmt.Sprintf("before: %d of %d shards halted, %d entries were added meanwhile", r.Halted, shards, paid.Ledger.Entries-bad.Ledger.Entries)
	_, err = d.finish(ctx, r)
	return err
}

// halted waits until shards are halted with an advice, and returns how many.
func (d *drills) halted(ctx context.Context, advice string) (n int, err error) {
	err = until(ctx, "rewards processes say: "+advice, func() (ok bool, err error) {
		n = 0
		said := ""
		defer func() {
			if err == nil && n == 0 {
				err = fmt.Errorf("they say %s", said)
			}
		}()
		for _, r := range d.fleet.Roles("rewards") {
			body, err := r.Get(ctx, "/readyz")
			if err != nil {
				return false, err
			}
			said += string(body)
			n += strings.Count(string(body), advice)
		}
		return n > 0, nil
	})
	if err == nil {
		err = program.Sleep(ctx, time.Second) // others say so a moment later
	}
	program.Say("  %d shards are halted: %s", n, advice)
	return n, err
}

// mend puts a ledger that fits in the place of one that does not.
func (d *drills) mend(ctx context.Context, r *outcome, backup string) error {
	if err := d.stop(ctx, "rewards", "gateway"); err != nil {
		return err
	}
	if _, err := d.do(ctx, "ledger-restore", backup); err != nil {
		return err
	}
	v, err := d.verify(ctx)
	if err != nil {
		return err
	}
	r.Behind = v.Ledger.Behind
	return d.resume(ctx)
}

// finish has players play on, and everything verified. It returns how many tiles
// were won.
func (d *drills) finish(ctx context.Context, r *outcome) (won int64, err error) {
	counts, err := d.playFor(ctx, nil)
	if err != nil {
		return 0, err
	}
	r.must(counts.Won > 0, "nothing was won after it")
	v, err := d.settled(ctx)
	if err != nil {
		return 0, err
	}
	r.verified(v)
	return counts.Won, nil
}

// oldLedger restores a ledger alone, under logs that are newer.
func (d *drills) oldLedger(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return err
	}
	r := d.begin("old-ledger", "the database lost, an older one restored under logs that are as they were: it catches up")
	backup, err := d.folder()
	if err != nil {
		return err
	}
	if _, err := d.playFor(ctx, func() error {
		began := time.Now()
		if _, err := d.do(ctx, "ledger-save", backup); err != nil {
			return err
		}
		r.Saved = seconds(began)
		return program.Sleep(ctx, playFor)
	}); err != nil {
		return err
	}
	if _, err := d.settled(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := d.mend(ctx, r, backup); err != nil {
		return err
	}
	r.Restored = seconds(began)
	r.must(r.Behind > 0, "the restored ledger has everything: nothing was tried")
	_, err = d.finish(ctx, r)
	return err
}
