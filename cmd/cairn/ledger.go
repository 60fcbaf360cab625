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
func (g *game) ledgerReady() error {
	if err := g.ledger.Ready(); err != nil {
		return err
	}
	if n := g.ledger.Lag(); n > lagMax {
		return fmt.Errorf("ledger: %d records behind, and settling", n)
	}
	return nil
}
