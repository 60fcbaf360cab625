package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/veltrix/cairn/internal/audit"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
	"github.com/veltrix/cairn/internal/ledger"
)

type verifyCmd struct {
	Data string `help:"The data folder of a cairn up that is not running; cairn-data without --log." type:"path"`
	Log  string `help:"Verify a live system instead: the Redis of its logs, redis://[USER[:PASSWORD]@]HOST:PORT[,HOST:PORT][?cluster], or rediss://. Wants --ledger. One with a password is best given as CAIRN_LOG." placeholder:"URL"`
	CA   string `name:"log-ca" help:"Certificates that sign those of a rediss:// server (PEM). Without it: the system's." placeholder:"FILE"`
	JSON bool   `name:"json" help:"Print JSON."`
	ledgerFlag
}

const (
	// verifyPatience is how long after a failover a log may lack what the
	// ledger has settled: its owner appends that again.
	verifyPatience = 5 * time.Second

	// verifyPollEvery is how often logs are looked at for what is new. It is of
	// no use to who reads what is there, and costs Redis.
	verifyPollEvery = 50 * time.Millisecond
)

// errViolated makes the exit code 1; the report has said why.
var errViolated = errors.New("the data breaks an invariant: see the violations")

func (v verifyCmd) Run(p *program) error {
	if err := v.checkFlags(); err != nil {
		return err
	}
	verify := v.verifyData
	if v.Log != "" {
		verify = v.verifyLive
	}
	report, err := verify(p)
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

// checkFlags makes --data what it means when it is not given.
func (v *verifyCmd) checkFlags() error {
	switch {
	case v.Log == "" && v.Data == "":
		v.Data = "cairn-data"
	case v.Log != "" && v.Data != "":
		return usagef("--data and --log exclude each other: a data folder, or the Redis of a live system")
	case v.Log != "" && v.Ledger == "":
		return usagef("--log: wants --ledger as well: the database that its rewards are in, postgres://USER@HOST/DATABASE")
	}
	if v.Log == "" && v.CA != "" {
		return usagef("--log-ca: is of use with --log only")
	}
	if v.Log != "" {
		if err := redislog.CheckURL(v.Log); err != nil {
			return usagef("--log: %w", err)
		}
	} else if st, err := os.Stat(filepath.Join(v.Data, logDir)); err != nil || !st.IsDir() {
		return usagef("--data: %s holds no cairn data; want the folder that cairn up was started with", v.Data)
	}
	return v.check()
}

// verifyLive verifies a system that runs.
func (v verifyCmd) verifyLive(p *program) (*audit.Report, error) {
	tls, err := logFlag{URL: v.Log, CA: v.CA}.tls()
	if err != nil {
		return nil, err
	}
	led, err := ledger.Open(p.ctx, v.Ledger, ledger.Options{ReadOnly: true, Log: p.log})
	if err != nil {
		return nil, fmt.Errorf("--ledger: nothing was verified: %w", err)
	}
	defer led.Close()
	// It only reads: whatever mode the writers are in, it asks least of Redis.
	store, err := redislog.Open(p.ctx, v.Log, redislog.Options{Ack: redislog.AckPrimary, PollEvery: verifyPollEvery, TLS: tls, Log: p.log})
	if err != nil {
		return nil, fmt.Errorf("--log: nothing was verified: %w", err)
	}
	defer store.Close()
	report, err := audit.Verify(p.ctx, store, led, audit.Options{Patience: verifyPatience, Progress: v.progress(p), Log: p.log})
	if err != nil && p.ctx.Err() == nil {
		return nil, fmt.Errorf("the logs or the ledger can't be read now, which says nothing of what they hold: %w", err)
	}
	return report, err
}

// verifyData verifies a data folder that nobody has open.
func (v verifyCmd) verifyData(p *program) (*audit.Report, error) {
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
