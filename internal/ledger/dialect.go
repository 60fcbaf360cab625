package ledger

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"

	"github.com/veltrix/cairn"
)

// The migrations are PostgreSQL's SQL, and other dialects' by their words.
//
//go:embed migrations/*.sql
var migrations embed.FS

// readersMax bounds how many reads run at once.
const readersMax = 4

// A dialect is what differs between the databases that a ledger can lie in.
// All other SQL of this package is what they have in common: positional `$1`,
// ON CONFLICT, row values.
type dialect struct {
	goose     goose.Dialect
	gooseOpts func() ([]goose.ProviderOption, error)
	words     []string // pairs of what a migration says and what this dialect says instead

	// open opens what a dsn names: one connection that writes, nil if
	// opts.ReadOnly, and a pool that reads. name is safe to print.
	open func(ctx context.Context, dsn string, opts *Options) (name string, write, read *sql.DB, err error)
	bulk func() bulk

	remote     bool          // answers may stay away, so that waiting for one needs a bound
	view       sql.TxOptions // of a transaction that sees one moment
	viewBegins string        // its first statement; "" for none
	integrity  string        // returns a row a problem, or one that says ok
}

// A bulk is a dialect's way to write many rows. It is used by one transaction
// at a time.
type bulk interface {
	// advance moves the offset of each batch's shard from b.from to b.to, and
	// its sums as though every claim of b were paid. It goes first and by
	// shard, so that of two workers one waits here and then finds the offset
	// moved: errStale.
	advance(ctx context.Context, tx *sql.Tx, batches []batch) error

	// insert writes rows as entries, where the tile has none, the first of a
	// tile in their order. It returns the indexes of those that it did not
	// write, ascending.
	insert(ctx context.Context, tx *sql.Tx, rows []Row) (lost []int, err error)

	// credit adds to the balances of players, who are sorted, so that two
	// transactions never wait for each other in a ring.
	credit(ctx context.Context, tx *sql.Tx, players []cairn.PlayerID, by []*balance) error
}

// dialectOf returns the dialect that a dsn is for.
func dialectOf(dsn string) (*dialect, error) {
	scheme, rest, _ := strings.Cut(dsn, ":")
	switch {
	case scheme == "sqlite" && rest != "":
		return &sqliteDialect, nil
	case (scheme == "postgres" || scheme == "postgresql") && strings.HasPrefix(rest, "//"):
		return &postgresDialect, nil
	}
	return nil, fmt.Errorf("%.16q: want sqlite:PATH or postgres://USER@HOST/DATABASE", scheme) // the rest may hold a password
}

// provider returns the migrations in this dialect's words.
func (d *dialect) provider(db *sql.DB) (*goose.Provider, error) {
	opts, err := d.gooseOpts()
	if err != nil {
		return nil, err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(d.goose, db, translated{files, strings.NewReplacer(d.words...)}, opts...)
}

// translated is files in other words.
type translated struct {
	fs.FS
	words *strings.Replacer
}

type translatedFile struct {
	fs.File
	text io.Reader
}

func (t translated) Open(name string) (fs.File, error) {
	f, err := t.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || st.IsDir() {
		return f, err
	}
	b, err := io.ReadAll(f)
	return translatedFile{f, strings.NewReader(t.words.Replace(string(b)))}, err
}

func (f translatedFile) Read(b []byte) (int, error) { return f.text.Read(b) }

// migrate brings the schema to this program's version. Two processes that do
// so at once are both right in the end: the one that lost looks again.
func (d *dialect) migrate(ctx context.Context, db *sql.DB) error {
	p, err := d.provider(db)
	if err != nil {
		return err
	}
	var first error // the others may only say what came of it
	for range 4 {
		_, err := p.Up(ctx)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return fmt.Errorf("migrate: %w", first)
}

// errBehind is of a database whose schema an owner of the ledger has yet to
// make or to bring up to date: whoever only reads has to wait.
var errBehind = errors.New("the next process that settles, such as cairn rewards, brings it up to date")

// checkVersion refuses a schema that is not the one this program knows.
func (d *dialect) checkVersion(ctx context.Context, db *sql.DB) error {
	p, err := d.provider(db)
	if err != nil {
		return err
	}
	want := int64(0)
	for _, s := range p.ListSources() {
		want = max(want, s.Version)
	}
	got := int64(0)
	if err := db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version`).Scan(&got); err != nil {
		if undefinedTable(err) {
			err = fmt.Errorf("%w: %w", errBehind, err)
		}
		return fmt.Errorf("not a ledger: %w", err)
	}
	if got < want {
		return fmt.Errorf("schema is version %d, want %d: %w", got, want, errBehind)
	}
	if got != want {
		return fmt.Errorf("schema is version %d, want %d", got, want)
	}
	return nil
}
