package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// Bounds of a page of Rewards.
const (
	PageDefault = 50
	PageMax     = 500
)

// Rewards returns a page of a player's entries, newest first by the claims'
// at, and the cursor of the next page: "" when there is none. The first page
// has the cursor "". A limit of 0 or less means PageDefault, one over PageMax
// means that. ErrBadCursor for a cursor that Rewards did not return.
func (l *Ledger) Rewards(ctx context.Context, player cairn.PlayerID, after string, limit int) (entries []Entry, next string, err error) {
	if limit <= 0 {
		limit = PageDefault
	}
	limit = min(limit, PageMax)
	args := []any{string(player)}
	if after != "" {
		c, err := parseCursor(after)
		if err != nil {
			return nil, "", err
		}
		args = append(args, int64(c.at), string(c.tile.Hunt), int64(c.tile.Tick), int64(c.tile.Tile))
	}
	ctx, done := l.bounded(ctx)
	defer done()
	// One row more than asked for tells whether there is a next page.
	rows, err := l.read.QueryContext(ctx, pageQuery(after != ""), append(args, limit+1)...)
	if err != nil {
		return nil, "", fmt.Errorf("ledger: rewards: %w", err)
	}
	entries = []Entry{}
	var last Row
	err = eachRow(rows, func(r *Row) error {
		if len(entries) == limit {
			next = cursor{last.At, last.TileRef}.String()
			return nil
		}
		last = *r
		entries = append(entries, Entry{
			r.Hunt, r.Tick, r.Tile, r.Geohash, r.Reward, r.At, r.Place.String(), r.State,
		})
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("ledger: rewards: %w", err)
	}
	return entries, next, nil
}

// pageQuery reads a player's entries in the order of the index on them.
func pageQuery(behindCursor bool) string {
	where, limit := ` WHERE player = $1`, `$2`
	if behindCursor {
		where += ` AND (at, hunt, map, tile) < ($2, $3, $4, $5)`
		limit = `$6`
	}
	return selectRows + where + ` ORDER BY at DESC, hunt DESC, map DESC, tile DESC LIMIT ` + limit
}

// Balance returns Σ of the rewards of a player's entries; 0 for one who has none.
func (l *Ledger) Balance(ctx context.Context, player cairn.PlayerID) (cairn.Micro, error) {
	ctx, done := l.bounded(ctx)
	defer done()
	var sum cairn.Micro
	err := l.read.QueryRowContext(ctx, `SELECT total FROM balances WHERE player = $1`, string(player)).Scan(&sum)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("ledger: balance: %w", err)
	}
	return sum, nil
}

// Settled returns, by shard, the last record that is settled: a log may be
// trimmed up to there. A shard of which nothing is settled is left out.
func (l *Ledger) Settled(ctx context.Context) (map[int]eventlog.Offset, error) {
	ctx, done := l.bounded(ctx)
	defer done()
	sums, err := readShardSums(ctx, l.read)
	if err != nil {
		return nil, fmt.Errorf("ledger: settled: %w", err)
	}
	m := make(map[int]eventlog.Offset, len(sums))
	for shard, s := range sums {
		if !s.Offset.IsZero() {
			m[shard] = s.Offset
		}
	}
	return m, nil
}

// Totals are sums over the whole ledger.
type Totals struct {
	Entries   int64       `json:"entries"`
	Rewards   cairn.Micro `json:"rewards"`   // Σ of all entries
	Conflicts int64       `json:"conflicts"` // claims that found their tile taken, and were not paid
}

// Totals returns the sums over the whole ledger.
func (l *Ledger) Totals(ctx context.Context) (Totals, error) {
	ctx, done := l.bounded(ctx)
	defer done()
	sums, err := readShardSums(ctx, l.read)
	if err != nil {
		return Totals{}, fmt.Errorf("ledger: totals: %w", err)
	}
	var t Totals
	for _, s := range sums {
		t.Entries += s.Entries
		t.Rewards += s.Rewards
		t.Conflicts += s.Conflicts
	}
	return t, nil
}

// ShardSums is how far one shard is settled, and the sums over what is.
type ShardSums struct {
	Offset    eventlog.Offset // the last settled record; zero if none is
	Chain     eventlog.Chain  // of that record
	Entries   int64           // entries that came from this shard
	Rewards   cairn.Micro     // Σ of them
	Conflicts int64           // claims of this shard that found their tile taken
}

// querier is a *sql.DB or a *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func readShardSums(ctx context.Context, db querier) (map[int]ShardSums, error) {
	rows, err := db.QueryContext(ctx, `SELECT shard, epoch, seq, chain, entries, total, conflicts FROM offsets`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	m := map[int]ShardSums{}
	for rows.Next() {
		var (
			shard int
			s     ShardSums
			chain []byte
		)
		if err := rows.Scan(&shard, &s.Offset.Epoch, &s.Offset.Seq, &chain, &s.Entries, &s.Rewards, &s.Conflicts); err != nil {
			return nil, err
		}
		if copy(s.Chain[:], chain) != len(s.Chain) || len(chain) != len(s.Chain) {
			return nil, fmt.Errorf("chain hash of shard %d has %d bytes, want %d", shard, len(chain), len(s.Chain))
		}
		m[shard] = s
	}
	return m, rows.Err()
}

const selectRows = `SELECT hunt, map, tile, player, name, cell, reward, at, shard, epoch, seq, idx, state FROM entries`

// eachRow calls f for each row of a selectRows query and closes it. The Row is
// borrowed.
func eachRow(rows *sql.Rows, f func(*Row) error) error {
	defer rows.Close()
	for rows.Next() {
		var r Row
		err := rows.Scan(&r.Hunt, &r.Tick, &r.Tile, &r.Player, &r.Name, &r.Geohash, &r.Reward, &r.At,
			&r.Place.Shard, &r.Place.Epoch, &r.Place.Seq, &r.Place.Index, &r.State)
		if err != nil {
			return err
		}
		if err := f(&r); err != nil {
			return err
		}
	}
	return rows.Err()
}
