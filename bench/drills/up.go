//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/lab"
)

// playFor is how long players play before something is done.
const playFor = 5 * time.Second

// one is one machine: the folder of cairn up is saved, destroyed and restored.
func (d *drills) one(ctx context.Context) error {
	data, backup := filepath.Join(d.lab.Dir, "cairn-data"), filepath.Join(d.lab.Dir, "backup-up")
	env := []string{"DATA=" + data, "BACKUP=" + backup}
	r := d.begin("up", "`cairn up` stopped, copied, its folder destroyed, put back, played on")
	if err := d.upFor(ctx, data, nil); err != nil {
		return err
	}
	began := time.Now()
	if _, err := d.do(ctx, "up-save", env...); err != nil {
		return err
	}
	r.Saved = seconds(began)
	if err := d.upFor(ctx, data, nil); err != nil { // what comes after the save is lost
		return err
	}
	before, err := d.verifyFolder(ctx, data)
	if err != nil {
		return err
	}
	began = time.Now()
	out, err := d.do(ctx, "up-restore", env...)
	if err != nil {
		return err
	}
	r.Restored = seconds(began)
	program.Say("  %s", lastLine(out))
	restored, err := d.verifyFolder(ctx, data)
	if err != nil {
		return err
	}
	r.Lost = before.Claims - restored.Claims
	if err := d.upFor(ctx, data, nil); err != nil {
		return err
	}
	after, err := d.verifyFolder(ctx, data)
	if err != nil {
		return err
	}
	r.verified(after)
	r.must(restored.OK && restored.Claims > 0 && restored.Claims < before.Claims, "the restored folder: %+v; before: %+v", restored, before)
	r.must(after.Claims > restored.Claims, "nothing was won after the restore")
	return d.copyLive(ctx)
}

// copyLive copies a folder of a cairn up that runs, which the document warns of:
// what comes of it must be told, whichever it is.
func (d *drills) copyLive(ctx context.Context) error {
	r := d.begin("up, live copy", "its folder copied while it runs, which is no backup")
	data, torn := filepath.Join(d.lab.Dir, "live-data"), filepath.Join(d.lab.Dir, "live-copy")
	err := d.upFor(ctx, data, func() error {
		out, err := exec.CommandContext(ctx, "cp", "-a", data, torn).CombinedOutput()
		if err != nil {
			r.Note = "the copy fails: " + lastLine(string(out)) // a file went while it was copied
		}
		return nil
	})
	if err != nil {
		return err
	}
	v, err := d.verifyFolder(ctx, torn)
	switch {
	case err != nil && r.Note == "":
		r.Note = "`cairn verify` refuses the copy"
	case err == nil && v.OK:
		r.Note += "`cairn verify` finds the copy good, this time"
	case err == nil:
		r.Note += fmt.Sprintf("`cairn verify` finds the copy bad: %.140s", v.what())
	}
	r.Verify = "n/a"
	return nil
}

// upFor runs cairn up with bots on a folder for a while, calls f while it runs,
// and stops it in good order.
func (d *drills) upFor(ctx context.Context, data string, f func() error) error {
	bin, err := d.lab.Build(ctx)
	if err != nil {
		return err
	}
	var at [2]string
	for i := range at {
		if at[i], err = lab.FreeAddress(); err != nil {
			return err
		}
	}
	d.ups++
	p, err := d.lab.StartProgram(ctx, lab.Program{
		Name:  fmt.Sprintf("up-%d", d.ups),
		Argv:  []string{bin, "up", "--data", data, "--listen", at[0], "--admin", at[1], "--bots", "40"},
		Ready: func(*lab.Process) (bool, error) { return lab.Answers(ctx, "http://"+at[1]+"/readyz"), nil },
	})
	if err != nil {
		return err
	}
	if err := program.Sleep(ctx, playFor); err != nil {
		return err
	}
	if f != nil {
		err = f()
	}
	return errors.Join(err, p.Stop(ctx))
}

// verifyFolder has cairn verify a folder.
func (d *drills) verifyFolder(ctx context.Context, data string) (*verified, error) {
	bin, err := d.lab.Build(ctx)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin, "verify", "--data", data, "--json")
	cmd.Env = os.Environ()
	out, err := cmd.Output()
	return parseVerified(out, err)
}
