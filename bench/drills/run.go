//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/veltrix/cairn/bench/origin"
	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/bench/report"
	"github.com/veltrix/cairn/internal/lab"
)

// drills is a run of them: one lab, and one fleet that each leaves whole.
type drills struct {
	o      options
	lab    *lab.Lab
	fleet  *lab.Fleet // nil until a drill needs it
	blocks map[string]string
	tried  map[string]bool // the blocks that were
	env    []string        // what the document says is set, of the fleet
	ups    int             // cairn ups so far
	backup int             // folders of backups so far
	all    []*outcome
}

// A drill has a name, for -only.
type drill struct {
	name string
	f    func(*drills, context.Context) error
}

// order is the order in which they come. The last one trims a log by hand, so
// nothing comes behind it.
var order = []drill{
	{"up", (*drills).one},
	{"fleet", (*drills).whole},
	{"wrong-order", (*drills).wrongOrder},
	{"old-ledger", (*drills).oldLedger},
	{"running", (*drills).running},
	{"roll", (*drills).roll},
	{"trimmed", (*drills).trimmed},
}

func names() (all []string) {
	for _, d := range order {
		all = append(all, d.name)
	}
	return all
}

// run does the drills and writes the result, also one that shows that something
// did not end as the document says: then it is an error as well.
func run(ctx context.Context, o options) (err error) {
	began := time.Now()
	d := &drills{o: o, tried: map[string]bool{}}
	if d.blocks, err = commands(o.doc); err != nil {
		return err
	}
	if d.lab, err = lab.New(lab.Options{Bin: o.bin, Keep: o.keep}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.lab.Close()) }()
	if o.keep {
		program.Say("all is in %s", d.lab.Dir)
	}
	bin, err := d.lab.Build(ctx)
	if err != nil {
		return err
	}
	// The document says cairn, and means this one.
	tools, err := d.lab.Folder("tools")
	if err != nil {
		return err
	}
	if err := errors.Join(os.Symlink(bin, tools+"/cairn"), os.Setenv("PATH", tools+":"+os.Getenv("PATH"))); err != nil {
		return err
	}
	for _, drill := range order {
		if slices.Contains(o.only, drill.name) {
			if err := drill.f(d, ctx); err != nil {
				return fmt.Errorf("%s: %w", drill.name, err)
			}
		}
	}
	if d.fleet != nil {
		if err := d.fleet.Drain(ctx); err != nil {
			return err
		}
	}
	res := &result{
		Machine: origin.Machine(), Commit: origin.Commit(), Command: o.command,
		Date: began.UTC().Format(time.DateOnly), Took: seconds(began), Outcomes: d.all,
	}
	fmt.Printf("\n%s\n", res.table())
	if err := report.Write(o.out, "drills.json", res); err != nil {
		return err
	}
	if err := res.verdict(); err != nil {
		return err
	}
	if !o.docs {
		return nil
	}
	for name := range d.blocks {
		if !d.tried[name] {
			return fmt.Errorf("%s: block %q was not tried by any drill", o.doc, name)
		}
	}
	return report.Splice(o.doc, "drills", res.table())
}

// begin begins a row of the table.
func (d *drills) begin(name, did string) *outcome {
	program.Say("%s: %s", name, did)
	r := &outcome{Name: name, Did: did}
	d.all = append(d.all, r)
	return r
}

// until asks every 100 ms until f says yes.
func until(ctx context.Context, what string, f func() (bool, error)) error {
	const patience = 40 * time.Second
	for end := time.Now().Add(patience); ; {
		ok, err := f()
		if ok {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("after %v it is not so that %s", patience, what), err)
		}
		if err := program.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}
