package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"github.com/veltrix/cairn/internal/audit"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/ledger"
)

type verifyCmd struct {
	Data string `help:"The data folder of a cairn up that is not running." default:"cairn-data" type:"path"`
	JSON bool   `name:"json" help:"Print JSON."`
	ledgerFlag
}

// errViolated makes the exit code 1; the report has said why.
var errViolated = errors.New("the data breaks an invariant: see the violations")

func (v verifyCmd) Run(p *program) error {
	if st, err := os.Stat(filepath.Join(v.Data, logDir)); err != nil || !st.IsDir() {
		return usagef("--data: %s holds no cairn data; want the folder that cairn up was started with", v.Data)
	}
	if err := v.check(); err != nil {
		return err
	}
	report, err := v.verify(p)
	if err != nil {
		return err
	}
	if v.JSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = report.WriteText(p.stdout)
	}
	if err == nil && !report.OK {
		return errViolated
	}
	return err
}

func (v verifyCmd) verify(p *program) (*audit.Report, error) {
	store, err := filelog.Open(filepath.Join(v.Data, logDir), filelog.Options{ReadOnly: true, Log: p.log})
	if errors.Is(err, eventlog.ErrInUse) {
		return nil, err // that says nothing of the data
	}
	if err != nil {
		return audit.OfError(err), nil
	}
	defer store.Close()
	path := filepath.Join(v.Data, ledgerFile)
	if _, err := os.Stat(path); v.Ledger == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is gone: what was paid can't be verified; restore it, say where it is with --ledger, or let cairn up settle the log anew", path)
	}
	led, err := ledger.Open(p.ctx, v.dsn(v.Data), ledger.Options{ReadOnly: true, Log: p.log})
	if v.Ledger != "" && err != nil {
		return nil, fmt.Errorf("--ledger: %w", err) // the wrong one, or not there now
	}
	if err != nil {
		return audit.OfError(err), nil
	}
	defer led.Close()
	return audit.Verify(p.ctx, store, led, audit.Options{Progress: v.progress(p), Log: p.log})
}

// progress returns what shows on a terminal how far the audit is, one line
// written over and over; elsewhere the report is enough.
func (v verifyCmd) progress(p *program) func(audit.Progress) {
	if f, ok := p.stderr.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func(s audit.Progress) {
		fmt.Fprintf(p.stderr, "\r\x1b[K%s: %d records, %d claims, %d ledger entries\r", s.Doing, s.Records, s.Claims, s.Entries)
	}
}
