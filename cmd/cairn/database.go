package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/ledger"
)

// A database is a ledger that may not be there yet, nor for a while: a process
// that serves players must start, and serve, without it. It is a
// [server.Rewards].
type database struct {
	dsn  string
	opts ledger.Options
	log  *slog.Logger

	led atomic.Pointer[ledger.Ledger]
	why atomic.Pointer[error] // the database was away when it was needed last; nil before the first try
}

// openEvery is how often a database that is away is tried again.
const openEvery = time.Second

// await opens the ledger, as soon as its database is there. Errors other than
// ctx's are of a database that is no ledger, or of another version.
func (d *database) await(ctx context.Context) (*ledger.Ledger, error) {
	for {
		l, err := ledger.Open(ctx, d.dsn, d.opts)
		if err == nil {
			d.led.Store(l)
			d.noted(nil)
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !ledger.IsAway(err) {
			return nil, err
		}
		d.noted(err)
		d.log.Warn("the ledger's database is away; trying again", "err", err, "in", openEvery)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(openEvery):
		}
	}
}

// errNotOpened is what callers hear before the database was tried at all.
var errNotOpened = fmt.Errorf("the ledger's database has not been opened yet: %w", context.DeadlineExceeded)

// ledger returns the ledger, or why it was never there: an error that
// [ledger.IsAway] knows.
func (d *database) ledger() (*ledger.Ledger, error) {
	if l := d.led.Load(); l != nil {
		return l, nil
	}
	if why := d.why.Load(); why != nil {
		return nil, *why
	}
	return nil, errNotOpened
}

// ready is the ledger's part of /readyz.
func (d *database) ready() error {
	l, err := d.ledger()
	if err != nil {
		return err
	}
	if !d.opts.ReadOnly {
		return settledEnough(l)
	}
	if why := d.why.Load(); why != nil {
		return *why
	}
	return nil
}

// noted remembers whether the database was there.
func (d *database) noted(err error) {
	if err == nil {
		d.why.Store(nil)
	} else if ledger.IsAway(err) {
		d.why.Store(&err)
	}
}

func (d *database) close() {
	if l := d.led.Load(); l != nil {
		if err := l.Close(); err != nil {
			d.log.Error("closing the ledger", "err", err)
		}
	}
}

// Rewards implements [server.Rewards].
func (d *database) Rewards(ctx context.Context, player cairn.PlayerID, cursor string, limit int) ([]ledger.Entry, string, error) {
	l, err := d.ledger()
	if err != nil {
		return nil, "", err
	}
	entries, next, err := l.Rewards(ctx, player, cursor, limit)
	d.noted(err)
	return entries, next, err
}

// Balance implements [server.Rewards].
func (d *database) Balance(ctx context.Context, player cairn.PlayerID) (cairn.Micro, error) {
	l, err := d.ledger()
	if err != nil {
		return 0, err
	}
	sum, err := l.Balance(ctx, player)
	d.noted(err)
	return sum, err
}
