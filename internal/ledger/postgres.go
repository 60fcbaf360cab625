package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/veltrix/cairn"
)

var postgresDialect = dialect{
	goose: goose.DialectPostgres,
	gooseOpts: func() ([]goose.ProviderOption, error) {
		// One process migrates, and the others wait for it: half a minute.
		l, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 30))
		return []goose.ProviderOption{goose.WithSessionLocker(l)}, err
	},
	open:   openPostgres,
	bulk:   func() bulk { return postgresBulk{} },
	remote: true,
	view:   sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead},
	// Who verifies reads all there is, and the logs between two queries.
	viewBegins: `SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0`,
	integrity: `
		SELECT format('index %s is not valid: REINDEX it', indexrelid::regclass) FROM pg_index
		WHERE indrelid IN ('entries'::regclass, 'offsets'::regclass, 'balances'::regclass) AND NOT (indisvalid AND indisready)
		UNION ALL
		SELECT format('table %s has no %s', t, k)
		FROM (VALUES ('entries', 'PRIMARY KEY (hunt, map, tile)'), ('offsets', 'PRIMARY KEY (shard)'), ('balances', 'PRIMARY KEY (player)')) AS want (t, k)
		WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = t::regclass AND pg_get_constraintdef(oid) = k)`,
}

// openPostgres opens the database of a dsn: one connection that writes, none
// if opts.ReadOnly, and a pool that reads.
func openPostgres(ctx context.Context, dsn string, opts *Options) (name string, write, read *sql.DB, err error) {
	cfg, err := postgresConfig(dsn, opts)
	if err != nil {
		return "postgres", nil, nil, err
	}
	name = "postgres://" + net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))) + "/" + cfg.Database
	r := cfg.Copy()
	r.RuntimeParams["default_transaction_read_only"] = "on"
	read = stdlib.OpenDB(*r)
	read.SetMaxOpenConns(readersMax)
	read.SetMaxIdleConns(readersMax)
	if err := checkServer(ctx, read, opts); err != nil {
		return name, nil, nil, errors.Join(err, read.Close())
	}
	if !opts.ReadOnly {
		write = sql.OpenDB(postgresWriter(cfg))
		write.SetMaxOpenConns(1)
		write.SetConnMaxLifetime(time.Hour) // a name may have moved to another machine
	}
	return name, write, read, nil
}

// postgresConfig reads a dsn. Its errors leave the password out.
func postgresConfig(dsn string, opts *Options) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > opts.AnswerWithin {
		cfg.ConnectTimeout = opts.AnswerWithin
	}
	within := strconv.FormatInt(opts.AnswerWithin.Milliseconds(), 10)
	for _, param := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		setDefault(cfg, param, within)
	}
	setDefault(cfg, "application_name", "cairn ledger")
	return cfg, nil
}

func setDefault(cfg *pgx.ConnConfig, param, value string) {
	if _, ok := cfg.RuntimeParams[param]; !ok {
		cfg.RuntimeParams[param] = value
	}
}

// postgresWriter connects the writer. Two workers on a shard wait for the lock
// of its row in offsets. One that is stopped in a transaction, or whose machine
// is gone, must not keep the other from the shard: that is what
// idle_in_transaction_session_timeout is for.
func postgresWriter(cfg *pgx.ConnConfig) driver.Connector {
	w := cfg.Copy()
	w.RuntimeParams["default_transaction_isolation"] = "read committed"
	w.RuntimeParams["default_transaction_read_only"] = "off"
	return stdlib.GetConnector(*w, stdlib.OptionAfterConnect(commitsAreDurable))
}

// isAway reports whether err came because PostgreSQL can't be reached or does
// not serve now.
func isAway(err error) bool {
	var (
		network net.Error
		connect *pgconn.ConnectError
		refused *pgconn.PgError
	)
	switch {
	case errors.As(err, &refused):
		switch refused.Code[:2] {
		case "08", "53", "57": // connection exception, insufficient resources, operator intervention
			return true
		}
		return refused.Code == "25P03" // idle_in_transaction_session_timeout
	case errors.As(err, &connect), errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return true
	}
	return errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err) // the connection was closed before
}

// undefinedTable reports whether err says that a table is not there.
func undefinedTable(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "42P01"
}

// commitsAreDurable makes a commit be on disk when it returns, whatever the
// server's default: what is settled is what a log may be trimmed up to.
func commitsAreDurable(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
	return err
}

// checkServer refuses a server that can't keep a ledger.
func checkServer(ctx context.Context, db *sql.DB, opts *Options) error {
	var encoding, fsync string
	var standby bool
	err := db.QueryRowContext(ctx, `SELECT current_setting('server_encoding'), current_setting('fsync'), pg_is_in_recovery()`).Scan(&encoding, &fsync, &standby)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == "3D000": // invalid_catalog_name
		return fmt.Errorf("%w: make it with createdb -E UTF8 -T template0", err)
	case err != nil:
		return err
	case encoding != "UTF8":
		return fmt.Errorf("the database's encoding is %s, want UTF8: make another with createdb -E UTF8 -T template0", encoding)
	case standby && !opts.ReadOnly:
		return errors.New("the server is a standby, which can't write: name the primary, or all of them with target_session_attrs=read-write")
	}
	if fsync == "off" {
		opts.Log.Warn("ledger: the server runs with fsync = off: a power cut may lose what is settled")
	}
	return nil
}

// postgresBulk writes with one statement a table, its rows as arrays.
type postgresBulk struct{}

func (postgresBulk) advance(ctx context.Context, tx *sql.Tx, batches []batch) error {
	var (
		fresh, shards, epochs, seqs, claims, totals, fromEpochs, fromSeqs []int64
		chains, fromChains                                                [][]byte
		zero                                                              []byte // the chain hash before a log's first record
	)
	for i := range batches {
		b := &batches[i]
		if b.from.offset.IsZero() {
			fresh, zero = append(fresh, int64(b.shard)), b.from.chain[:]
		}
		shards = append(shards, int64(b.shard))
		epochs = append(epochs, int64(b.to.offset.Epoch))
		seqs = append(seqs, int64(b.to.offset.Seq))
		chains = append(chains, b.to.chain[:])
		claims = append(claims, int64(b.claims))
		totals = append(totals, int64(b.total()))
		fromEpochs = append(fromEpochs, int64(b.from.offset.Epoch))
		fromSeqs = append(fromSeqs, int64(b.from.offset.Seq))
		fromChains = append(fromChains, b.from.chain[:])
	}
	if len(fresh) > 0 {
		_, err := tx.ExecContext(ctx, `INSERT INTO offsets (shard, epoch, seq, chain, entries, total, conflicts)
			SELECT s, 0, 0, $2, 0, 0, 0 FROM unnest($1::bigint[]) AS s ORDER BY s ON CONFLICT DO NOTHING`, fresh, zero)
		if err != nil {
			return err
		}
	}
	// An UPDATE of many rows locks them in any order, and two of them each
	// other out.
	if _, err := tx.ExecContext(ctx, `SELECT 1 FROM offsets WHERE shard = ANY ($1::bigint[]) ORDER BY shard FOR UPDATE`, shards); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, `UPDATE offsets AS o
		SET epoch = b.epoch, seq = b.seq, chain = b.chain, entries = o.entries + b.claims, total = o.total + b.total
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bytea[])
			AS b (shard, epoch, seq, chain, claims, total, from_epoch, from_seq, from_chain)
		WHERE o.shard = b.shard AND o.epoch = b.from_epoch AND o.seq = b.from_seq AND o.chain = b.from_chain
		RETURNING o.shard`, shards, epochs, seqs, chains, claims, totals, fromEpochs, fromSeqs, fromChains)
	if err != nil {
		return err
	}
	moved, err := ints(rows)
	if err != nil {
		return err
	}
	for _, b := range batches {
		if !moved[b.shard] {
			return &errStale{b.shard}
		}
	}
	return nil
}

// ints returns the set of a query's integers and closes it.
func ints(rows *sql.Rows) (map[int]bool, error) {
	defer rows.Close()
	m := map[int]bool{}
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		m[n] = true
	}
	return m, rows.Err()
}

func (postgresBulk) insert(ctx context.Context, tx *sql.Tx, rows []Row) (lost []int, err error) {
	if len(rows) == 0 {
		return nil, nil
	}
	n := len(rows)
	hunts, players, names, cells := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	ticks, tiles, rewards, ats := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	shards, epochs, seqs, idxs := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i := range rows {
		r := &rows[i]
		hunts[i], players[i], names[i], cells[i] = string(r.Hunt), string(r.Player), r.Name, r.Geohash
		ticks[i], tiles[i], rewards[i], ats[i] = int64(r.Tick), int64(r.Tile), int64(r.Reward), int64(r.At)
		shards[i], epochs[i], seqs[i], idxs[i] = int64(r.Place.Shard), int64(r.Place.Epoch), int64(r.Place.Seq), int64(r.Place.Index)
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO entries (hunt, map, tile, player, name, cell, reward, at, shard, epoch, seq, idx)
		SELECT hunt, map, tile, player, name, cell, reward, at, shard, epoch, seq, idx
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],
			$7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[]) WITH ORDINALITY
			AS r (hunt, map, tile, player, name, cell, reward, at, shard, epoch, seq, idx, i)
		ORDER BY i ON CONFLICT DO NOTHING`,
		hunts, ticks, tiles, players, names, cells, rewards, ats, shards, epochs, seqs, idxs)
	if err != nil {
		return nil, err
	}
	inserted, err := res.RowsAffected()
	if err != nil || int(inserted) == n {
		return nil, err
	}
	others, err := tx.QueryContext(ctx, `SELECT i - 1
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) WITH ORDINALITY
			AS r (hunt, map, tile, shard, epoch, seq, idx, i)
		JOIN entries AS e USING (hunt, map, tile)
		WHERE (e.shard, e.epoch, e.seq, e.idx) <> (r.shard, r.epoch, r.seq, r.idx)`,
		hunts, ticks, tiles, shards, epochs, seqs, idxs)
	if err != nil {
		return nil, err
	}
	isLost, err := ints(others)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if isLost[i] {
			lost = append(lost, i)
		}
	}
	return lost, checkLost(n, int(inserted), len(lost))
}

func (postgresBulk) credit(ctx context.Context, tx *sql.Tx, players []cairn.PlayerID, by []*balance) error {
	names, entries, totals := make([]string, len(players)), make([]int64, len(players)), make([]int64, len(players))
	for i, p := range players {
		names[i], entries[i], totals[i] = string(p), by[i].entries, int64(by[i].total)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO balances (player, entries, total)
		SELECT player, entries, total FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS b (player, entries, total, i)
		ORDER BY i
		ON CONFLICT (player) DO UPDATE SET entries = balances.entries + excluded.entries, total = balances.total + excluded.total`,
		names, entries, totals)
	return err
}
