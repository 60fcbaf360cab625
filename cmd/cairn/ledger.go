package main

import (
	"fmt"
	"path/filepath"

	"github.com/veltrix/cairn/internal/ledger"
)

// A ledgerFlag is --ledger of the commands that have a ledger.
type ledgerFlag struct {
	Ledger string `help:"Database of rewards: postgres://USER@HOST/DATABASE (its password in PGPASSWORD or ~/.pgpass), or sqlite:PATH. Without it: an SQLite file in --data." placeholder:"DSN"`
}

func (f ledgerFlag) check() error {
	if f.Ledger == "" {
		return nil
	}
	if err := ledger.CheckDSN(f.Ledger); err != nil {
		return usagef("--ledger: %w", err)
	}
	return nil
}

// required returns what is wrong with --ledger where there is no data folder.
func (f ledgerFlag) required() error {
	if f.Ledger == "" {
		return usagef("--ledger: is missing; want the database of rewards, such as postgres://cairn@127.0.0.1/cairn")
	}
	return f.check()
}

// dsn returns what --ledger means with a data folder.
func (f ledgerFlag) dsn(data string) string {
	if f.Ledger == "" {
		return "sqlite:" + filepath.Join(data, ledgerFile)
	}
	return f.Ledger
}

// lagMax is how many records the ledger may be behind before /readyz tells:
// what many shards write in the moment that a transaction takes.
const lagMax = 1000

// ledgerReady is the ledger's part of /readyz.
func (g *game) ledgerReady() error { return settledEnough(g.ledger) }

// settledEnough returns why a ledger needs a look.
func settledEnough(l *ledger.Ledger) error {
	if err := l.Ready(); err != nil {
		return err
	}
	if n := l.Lag(); n > lagMax {
		return fmt.Errorf("ledger: %d records behind, and settling", n)
	}
	return nil
}
