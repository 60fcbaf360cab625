package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/veltrix/cairn/internal/eventlog"
)

var errInjected = errors.New("injected: database or disk is full")

// faults fails one step of a connection: a statement, or a commit.
type faults struct {
	mu    sync.Mutex
	steps int  // so far
	at    int  // the step to fail; 0 for none
	after bool // the step happens, and its answer is lost
	hit   chan struct{}
}

// step counts a step, and says whether to do it and what to answer.
func (f *faults) step() (do bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps++
	if f.steps != f.at {
		return true, nil
	}
	close(f.hit)
	return f.after, errInjected
}

// faultyConnector is a backend's, with faults.
type faultyConnector struct {
	driver.Connector
	f *faults
}

func (c faultyConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyConn{conn.(realConn), c.f}, nil
}

type realConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

type faultyConn struct {
	realConn
	f *faults
}

func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	do, fault := c.f.step()
	if !do {
		return nil, fault
	}
	res, err := c.realConn.ExecContext(ctx, query, args)
	return res, errors.Join(err, fault)
}

func (c *faultyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.realConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &faultyTx{tx, c.f}, nil
}

type faultyTx struct {
	driver.Tx
	f *faults
}

func (tx *faultyTx) Commit() error {
	do, fault := tx.f.step()
	if !do {
		return errors.Join(fault, tx.Rollback())
	}
	return errors.Join(tx.Tx.Commit(), fault)
}

func (c *faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	do, fault := c.f.step()
	if !do {
		return nil, fault
	}
	rows, err := c.realConn.QueryContext(ctx, query, args)
	if err == nil && fault != nil {
		err = rows.Close()
	}
	if err = errors.Join(err, fault); err != nil {
		return nil, err
	}
	return rows, nil
}

func (c *faultyConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.realConn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// inject replaces the writer of l by one with faults.
func inject(t *testing.T, b backend, l *Ledger, dsn string, f *faults) {
	t.Helper()
	if err := l.write.Close(); err != nil {
		t.Fatal(err)
	}
	l.write = sql.OpenDB(faultyConnector{b.writer(t, dsn, l.opts), f})
	l.write.SetMaxOpenConns(1)
}

// TestFaults fails each statement and each commit in turn, before and after it
// happened, with the same process going on and with a new one that takes over.
func TestFaults(t *testing.T) { each(t, testFaults) }

func testFaults(t *testing.T, b backend) {
	const shards = 2
	store := provision(t, shards)
	newHistory(t, store, 1).some(shards, 4)
	opts := fast
	opts.RowsMax = 8 // several transactions
	for _, after := range []bool{false, true} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("after=%v/restart=%v", after, restart), func(t *testing.T) {
				for at := 1; ; at++ {
					if !faultAt(t, b, store, shards, opts, &faults{at: at, after: after, hit: make(chan struct{})}, restart) {
						if at < 12 {
							t.Fatalf("only %d steps: the history is too small", at)
						}
						return
					}
				}
			})
		}
	}
}

// faultAt settles store's logs with one fault and checks the books. It reports
// whether the fault happened.
func faultAt(t *testing.T, b backend, store eventlog.Store, shards int, opts Options, f *faults, restart bool) bool {
	dsn := b.fresh(t)
	l := openLedger(t, dsn, opts)
	inject(t, b, l, dsn, f)
	stop := start(t, l, store)
	hit := func() bool {
		select {
		case <-f.hit:
			return true
		default:
			return false
		}
	}
	eventually(t, "the fault, or all settled", func() bool { return restart && hit() || settled(t, l, store, shards) })
	if restart && hit() {
		stop()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openLedger(t, dsn, opts)
		stop = start(t, l, store)
	}
	eventually(t, "all settled", func() bool { return settled(t, l, store, shards) })
	eventually(t, "ready", func() bool { return l.Ready() == nil && l.Lag() == 0 })
	stop()
	checkBooks(t, l, store, shards)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return hit()
}
