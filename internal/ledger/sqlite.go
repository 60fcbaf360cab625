package ledger

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed sqlite/*.sql
var sqliteMigrations embed.FS

// readersMax bounds how many reads run at once. Under WAL they wait neither
// for each other nor for the writer.
const readersMax = 4

// A dialect is what differs between the databases that a ledger can lie in.
// All other SQL of this package is what they have in common: positional `?`,
// ON CONFLICT, row values.
type dialect struct {
	goose      goose.Dialect
	migrations fs.FS
	integrity  string // returns a row a problem, or one that says ok
	open       func(ctx context.Context, path string, readOnly bool) (write, read *sql.DB, err error)
}

var sqliteDialect = dialect{
	goose:      goose.DialectSQLite3,
	migrations: must(fs.Sub(sqliteMigrations, "sqlite")),
	integrity:  "PRAGMA integrity_check(100)",
	open:       openSQLite,
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// openSQLite opens the database file at path: one connection that writes, none
// if readOnly, and a pool that reads. SQLite has one writer at a time anyway;
// one connection waits in Go, where ctx is heard, and not in a busy loop.
func openSQLite(ctx context.Context, path string, readOnly bool) (write, read *sql.DB, err error) {
	if readOnly {
		if _, err := os.Stat(path); err != nil {
			return nil, nil, err
		}
		read, err = sql.Open("sqlite", sqliteURI(path, readOnlyParams(path)))
		if err != nil {
			return nil, nil, err
		}
		read.SetMaxOpenConns(readersMax)
		if err := read.PingContext(ctx); err != nil {
			return nil, nil, errors.Join(err, read.Close())
		}
		return nil, read, nil
	}
	write, err = sql.Open("sqlite", sqliteURI(path, writeParams()))
	if err != nil {
		return nil, nil, err
	}
	write.SetMaxOpenConns(1)
	// The file, and its being in WAL mode, come from the writer.
	if err := write.PingContext(ctx); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	read, err = sql.Open("sqlite", sqliteURI(path, url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)"}}))
	if err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(readersMax)
	read.SetMaxIdleConns(readersMax)
	return write, read, nil
}

// writeParams: a commit is on disk when it returns, and a transaction has the
// write lock from its beginning, so that it never has to give up half-way.
func writeParams() url.Values {
	return url.Values{
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"},
	}
}

// readOnlyParams says how to read the file at path without changing its
// folder. Without a write-ahead log beside it the file is whole and nobody
// writes to it, so SQLite need not make shared memory for others: "immutable".
func readOnlyParams(path string) url.Values {
	v := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(5000)"}}
	if st, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() == 0 {
		v.Set("immutable", "1")
	}
	return v
}

func sqliteURI(path string, params url.Values) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	return "file:" + u.EscapedPath() + "?" + params.Encode()
}

// migrate brings the schema to this program's version. Two processes that do
// so at once are both right in the end: the one that lost looks again.
func (d *dialect) migrate(ctx context.Context, db *sql.DB) error {
	p, err := goose.NewProvider(d.goose, db, d.migrations)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		if _, err = p.Up(ctx); err == nil || try == 3 {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// checkVersion refuses a schema that is not the one this program knows.
func (d *dialect) checkVersion(ctx context.Context, db *sql.DB) error {
	p, err := goose.NewProvider(d.goose, db, d.migrations)
	if err != nil {
		return err
	}
	want := int64(0)
	for _, s := range p.ListSources() {
		want = max(want, s.Version)
	}
	got := int64(0)
	if err := db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version`).Scan(&got); err != nil {
		return fmt.Errorf("not a ledger: %w", err)
	}
	if got != want {
		return fmt.Errorf("schema is version %d, want %d", got, want)
	}
	return nil
}
