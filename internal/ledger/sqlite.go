package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite" // also the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/veltrix/cairn"
)

var sqliteDialect = dialect{
	goose:     goose.DialectSQLite3,
	gooseOpts: func() ([]goose.ProviderOption, error) { return nil, nil },
	words:     []string{"BIGINT", "INTEGER", "BYTEA", "BLOB", ` COLLATE "C"`, "", "/*sqlite:", "", "*/", ""},
	open:      openSQLite,
	bulk:      func() bulk { return new(sqliteBulk) },
	view:      sql.TxOptions{ReadOnly: true},
	integrity: "PRAGMA integrity_check(100)",
}

// busyWithin bounds how long a connection waits for another's lock.
const busyWithin = 5 * time.Second

var busyTimeout = fmt.Sprintf("busy_timeout(%d)", busyWithin.Milliseconds())

// openSQLite opens the database file of a dsn: one connection that writes, none
// if readOnly, and a pool that reads. SQLite has one writer at a time anyway;
// one connection waits in Go, where ctx is heard, and not in a busy loop.
// Under WAL reads wait neither for each other nor for the writer.
func openSQLite(ctx context.Context, dsn string, opts *Options) (path string, write, read *sql.DB, err error) {
	path = strings.TrimPrefix(dsn, "sqlite:")
	if opts.ReadOnly {
		if _, err := os.Stat(path); err != nil {
			return path, nil, nil, err
		}
		read, err = sql.Open("sqlite", sqliteURI(path, readOnlyParams(path)))
		if err != nil {
			return path, nil, nil, err
		}
		read.SetMaxOpenConns(readersMax)
		if err := read.PingContext(ctx); err != nil {
			return path, nil, nil, errors.Join(err, read.Close())
		}
		return path, nil, read, nil
	}
	write, err = sql.Open("sqlite", sqliteURI(path, writeParams()))
	if err != nil {
		return path, nil, nil, err
	}
	write.SetMaxOpenConns(1)
	// The file, and its being in WAL mode, come from the writer.
	if err := ping(ctx, write); err != nil {
		return path, nil, nil, errors.Join(err, write.Close())
	}
	read, err = sql.Open("sqlite", sqliteURI(path, url.Values{"mode": {"ro"}, "_pragma": {busyTimeout}}))
	if err != nil {
		return path, nil, nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(readersMax)
	read.SetMaxIdleConns(readersMax)
	return path, write, read, nil
}

// ping makes db connect. Two processes that make a file WAL at once don't wait
// for each other, whatever the busy_timeout: one is refused, and asks again.
func ping(ctx context.Context, db *sql.DB) error {
	for wait := retryMin; ; wait *= 2 {
		err := db.PingContext(ctx)
		var busy *sqlite.Error
		if !errors.As(err, &busy) || busy.Code()&0xff != sqlite3.SQLITE_BUSY || wait > busyWithin || !sleep(ctx, wait) {
			return err
		}
	}
}

// writeParams: a commit is on disk when it returns, and a transaction has the
// write lock from its beginning, so that it never has to give up half-way. What
// undoes a part of one, should it fail, is in memory: it is of no use to a next
// process, and files of it took a third of the time of a large transaction.
func writeParams() url.Values {
	return url.Values{
		"_txlock": {"immediate"},
		"_pragma": {busyTimeout, "journal_mode(WAL)", "synchronous(FULL)", "temp_store(MEMORY)"},
	}
}

// readOnlyParams says how to read the file at path without changing its
// folder. Without a write-ahead log beside it the file is whole and nobody
// writes to it, so SQLite need not make shared memory for others: "immutable".
func readOnlyParams(path string) url.Values {
	v := url.Values{"mode": {"ro"}, "_pragma": {busyTimeout}}
	if st, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() == 0 {
		v.Set("immutable", "1")
	}
	return v
}

func sqliteURI(path string, params url.Values) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	return "file:" + u.EscapedPath() + "?" + params.Encode()
}

// insertRows is how many rows one INSERT takes: a statement costs about as
// much as four of its rows.
const insertRows = 64

const (
	insertColumns = 12
	balanceRows   = 64
)

// sqliteBulk writes with statements of up to 64 rows.
type sqliteBulk struct {
	args []any // kept for its memory
}

func (*sqliteBulk) advance(ctx context.Context, tx *sql.Tx, batches []batch) error {
	for i := range batches {
		b := &batches[i]
		if b.from.offset.IsZero() {
			_, err := tx.ExecContext(ctx, `INSERT INTO offsets (shard, epoch, seq, chain, entries, total, conflicts)
				VALUES ($1, 0, 0, $2, 0, 0, 0) ON CONFLICT DO NOTHING`, b.shard, b.from.chain[:])
			if err != nil {
				return err
			}
		}
		res, err := tx.ExecContext(ctx, `UPDATE offsets SET epoch = $1, seq = $2, chain = $3, entries = entries + $4, total = total + $5
			WHERE shard = $6 AND epoch = $7 AND seq = $8 AND chain = $9`,
			int64(b.to.offset.Epoch), int64(b.to.offset.Seq), b.to.chain[:], b.claims, int64(b.total()),
			b.shard, int64(b.from.offset.Epoch), int64(b.from.offset.Seq), b.from.chain[:])
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, &errStale{b.shard})
		}
	}
	return nil
}

func (w *sqliteBulk) insert(ctx context.Context, tx *sql.Tx, rows []Row) (lost []int, err error) {
	for first := 0; first < len(rows); first += insertRows {
		n := len(lost)
		lost, err = w.insertChunk(ctx, tx, rows[first:min(first+insertRows, len(rows))], lost)
		if err != nil {
			return nil, err
		}
		for ; n < len(lost); n++ {
			lost[n] += first
		}
	}
	return lost, nil
}

// insertChunk inserts rows with one statement, and appends to lost.
func (w *sqliteBulk) insertChunk(ctx context.Context, tx *sql.Tx, rows []Row, lost []int) ([]int, error) {
	w.args = w.args[:0]
	for i := range rows {
		r := &rows[i]
		w.args = append(w.args, string(r.Hunt), int64(r.Tick), int64(r.Tile), string(r.Player), r.Name, r.Geohash, int64(r.Reward), int64(r.At),
			int64(r.Place.Shard), int64(r.Place.Epoch), int64(r.Place.Seq), int64(r.Place.Index))
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO entries (hunt, map, tile, player, name, cell, reward, at, shard, epoch, seq, idx) VALUES `+
		values(len(rows), insertColumns)+` ON CONFLICT DO NOTHING`, w.args...)
	if err != nil {
		return nil, err
	}
	n, err := res.RowsAffected()
	if err != nil || int(n) == len(rows) {
		return lost, err
	}
	before := len(lost)
	for i := range rows {
		won, err := stands(ctx, tx, &rows[i])
		if err != nil {
			return nil, err
		}
		if !won {
			lost = append(lost, i)
		}
	}
	return lost, checkLost(len(rows), int(n), len(lost)-before)
}

// stands reports whether the tile's entry is r: its place is r's alone.
func stands(ctx context.Context, tx *sql.Tx, r *Row) (bool, error) {
	var p cairn.Place
	err := tx.QueryRowContext(ctx, `SELECT shard, epoch, seq, idx FROM entries WHERE hunt = $1 AND map = $2 AND tile = $3`,
		string(r.Hunt), int64(r.Tick), int64(r.Tile)).Scan(&p.Shard, &p.Epoch, &p.Seq, &p.Index)
	return p == r.Place, err
}

func (w *sqliteBulk) credit(ctx context.Context, tx *sql.Tx, players []cairn.PlayerID, by []*balance) error {
	for first := 0; first < len(players); first += balanceRows {
		end := min(first+balanceRows, len(players))
		w.args = w.args[:0]
		for i := first; i < end; i++ {
			w.args = append(w.args, string(players[i]), by[i].entries, int64(by[i].total))
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO balances (player, entries, total) VALUES `+values(end-first, 3)+
			` ON CONFLICT (player) DO UPDATE SET entries = balances.entries + excluded.entries, total = balances.total + excluded.total`, w.args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// values returns the VALUES list of n rows.
func values(n, columns int) string {
	row := "(?" + strings.Repeat(", ?", columns-1) + ")"
	return row + strings.Repeat(", "+row, n-1)
}
