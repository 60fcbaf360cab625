package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"github.com/veltrix/cairn"
)

// A View is the ledger at one moment: what is committed after View began is
// not seen. Its methods may be called concurrently, and take turns.
type View struct {
	l  *Ledger
	tx *sql.Tx
	mu sync.Mutex // a connection answers one query at a time
}

// View begins a view. Close it: it holds a connection, and keeps SQLite's
// write-ahead log from shrinking, and PostgreSQL from vacuuming.
func (l *Ledger) View(ctx context.Context) (*View, error) {
	opts := l.dialect.view
	tx, err := l.read.BeginTx(ctx, &opts)
	if err == nil && l.dialect.viewBegins != "" {
		if _, err = tx.ExecContext(ctx, l.dialect.viewBegins); err != nil {
			_ = tx.Rollback()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: %s: %w", l.name, err)
	}
	v := &View{l: l, tx: tx}
	// The snapshot is taken at the first read.
	if _, err := v.Shards(ctx); err != nil {
		_ = tx.Rollback()
		return nil, err
	}
	return v, nil
}

// Close ends the view.
func (v *View) Close() error { return v.tx.Rollback() }

// Shards returns how far each shard is settled.
func (v *View) Shards(ctx context.Context) (map[int]ShardSums, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	m, err := readShardSums(ctx, v.tx)
	if err != nil {
		return nil, fmt.Errorf("ledger: %s: offsets: %w", v.l.name, err)
	}
	return m, nil
}

// Map calls f for each entry of one map, by tile. The Row is borrowed. f must
// not call the View.
func (v *View) Map(ctx context.Context, hunt cairn.HuntID, tick cairn.Tick, f func(*Row) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	rows, err := v.tx.QueryContext(ctx, selectRows+` WHERE hunt = $1 AND map = $2 ORDER BY tile`, string(hunt), int64(tick))
	if err == nil {
		err = eachRow(rows, f)
	}
	if err != nil {
		return fmt.Errorf("ledger: %s: entries of %s/%d: %w", v.l.name, hunt, tick, err)
	}
	return nil
}

// Rows calls f for each entry, by hunt, map and tile. The Row is borrowed. f
// must not call the View.
func (v *View) Rows(ctx context.Context, f func(*Row) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	rows, err := v.tx.QueryContext(ctx, selectRows+` ORDER BY hunt, map, tile`)
	if err == nil {
		err = eachRow(rows, f)
	}
	if err != nil {
		return fmt.Errorf("ledger: %s: entries: %w", v.l.name, err)
	}
	return nil
}

// Balances calls f for each player's balance, by player. f must not call the
// View.
func (v *View) Balances(ctx context.Context, f func(player cairn.PlayerID, entries int64, total cairn.Micro) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	rows, err := v.tx.QueryContext(ctx, `SELECT player, entries, total FROM balances ORDER BY player`)
	if err != nil {
		return fmt.Errorf("ledger: %s: balances: %w", v.l.name, err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			player  cairn.PlayerID
			entries int64
			total   cairn.Micro
		)
		if err := rows.Scan(&player, &entries, &total); err != nil {
			return fmt.Errorf("ledger: %s: balances: %w", v.l.name, err)
		}
		if err := f(player, entries, total); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Integrity lets the database check itself, and returns what it found wrong:
// nothing if it is whole. SQLite checks its file; PostgreSQL, that its indexes
// are valid and the keys there that make an entry unique.
func (v *View) Integrity(ctx context.Context) ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	rows, err := v.tx.QueryContext(ctx, v.l.dialect.integrity)
	if err != nil {
		return nil, fmt.Errorf("ledger: %s: integrity: %w", v.l.name, err)
	}
	defer rows.Close()
	var problems []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, fmt.Errorf("ledger: %s: integrity: %w", v.l.name, err)
		}
		if s != "ok" {
			problems = append(problems, fmt.Sprintf("%s: %s", v.l.name, s))
		}
	}
	return problems, rows.Err()
}
