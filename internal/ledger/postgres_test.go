package ledger

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/ledger/pgtest"
)

// query returns the one value of a query, asked of the server itself.
func query[T any](t testing.TB, dsn, sql string, args ...any) (v T) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// with returns a dsn with another parameter.
func with(t testing.TB, dsn, param, value string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(param, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// TestCommitCut cuts the connection at every third COMMIT, in each way in
// which the client can't know whether it happened. Nothing is paid twice, and
// nothing is lost.
func TestCommitCut(t *testing.T) {
	const shards = 2
	store := provision(t, shards)
	newHistory(t, store, 20).some(shards, 12)
	for _, c := range cuts {
		t.Run(c.name, func(t *testing.T) {
			direct := with(t, pgtest.Shared(t).Schema(t), "application_name", t.Name())
			waiting := func() int {
				return query[int](t, direct, `SELECT count(*) FROM pg_stat_activity
					WHERE application_name = $1 AND wait_event_type = 'Lock'`, t.Name())
			}
			p, dsn := newProxy(t, direct, waiting)
			opts := fast
			opts.RowsMax, opts.AnswerWithin = 8, c.within
			l := openLedger(t, dsn, opts)
			p.cutEvery(3, c.cut)
			stop := start(t, l, store)
			eventually(t, "all settled", func() bool {
				m, err := l.Settled(context.Background())
				return err == nil && covers(t, m, store, shards)
			})
			eventually(t, "ready", func() bool { return l.Ready() == nil && l.Lag() == 0 })
			stop()
			l.Close()
			p.close()
			checkBooks(t, openLedger(t, direct, Options{ReadOnly: true}), store, shards)
			// A commit that was not cut may take longer than the answer is waited
			// for, on a busy machine, and land: not all of them do.
			if stale := count(l.metrics.stale); c.lands != (stale >= float64(p.cuts)) {
				t.Errorf("%v commits were found to have landed, of %d that were cut; want all: %v", stale, p.cuts, c.lands)
			}
			if p.cuts < 3 {
				t.Errorf("%d of %d commits were cut, want 3 or more", p.cuts, p.commits)
			}
		})
	}
}

// covers reports whether m says that all of the shards of store are settled.
func covers(t testing.TB, m map[int]eventlog.Offset, store eventlog.Store, shards int) bool {
	t.Helper()
	for i := range shards {
		st, err := store.Status(context.Background(), eventlog.Shard(i))
		if err != nil {
			t.Fatal(err)
		}
		if m[i] != st.Last {
			return false
		}
	}
	return true
}

// TestServerKilled kills the server in the middle of settling, over and over,
// while claims are made. The ledger says so, and how far it is behind, and
// catches up.
func TestServerKilled(t *testing.T) {
	const shards, kills = 3, 6
	server := pgtest.Start(t, false)
	store := provision(t, shards)
	h := newHistory(t, store, 21)
	reg := prometheus.NewRegistry()
	opts := fast
	opts.RowsMax, opts.Metrics = 20, reg
	l := openLedger(t, server.Schema(t), opts)
	stop := start(t, l, store)
	settledOf := func() int64 {
		totals, err := l.Totals(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return totals.Entries
	}
	for range kills {
		before := settledOf()
		h.some(shards, 60)
		eventually(t, "some are settled", func() bool { return settledOf() > before })
		server.Kill()
		h.some(shards, 20)
		eventually(t, "the ledger says that it is behind", func() bool {
			err := l.Ready()
			return err != nil && strings.Contains(err.Error(), "records behind; transactions fail and are tried again")
		})
		if lag := gauge(t, reg, "cairn_ledger_lag_records"); lag < shards*20 {
			t.Errorf("lag with the server away: %v, want %d or more", lag, shards*20)
		}
		if _, err := l.Balance(context.Background(), "p01"); err == nil {
			t.Error("Balance with the server away: no error")
		}
		server.Start(t)
	}
	eventually(t, "all settled", func() bool { return settled(t, l, store, shards) })
	eventually(t, "ready", func() bool { return l.Ready() == nil && l.Lag() == 0 })
	checkBooks(t, l, store, shards)
	if got := count(l.metrics.failures); got < kills {
		t.Errorf("cairn_ledger_commit_failures_total: %v, want %d or more", got, kills)
	}
	stop()
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestStopsWhileAway: Run ends at once when it is told to, with the database
// away too.
func TestStopsWhileAway(t *testing.T) {
	store := provision(t, 1)
	server := pgtest.Start(t, false)
	l := openLedger(t, server.Schema(t), Options{CommitEvery: time.Millisecond}) // it waits for up to 5s between two tries
	stop := start(t, l, store)
	eventually(t, "running", func() bool { return settled(t, l, store, 1) })
	server.Kill()
	newHistory(t, store, 22).write(0)
	eventually(t, "failing", func() bool { return l.Ready() != nil })
	stop()
}

// TestOpenAtOnce: many processes start on a database that is empty.
func TestOpenAtOnce(t *testing.T) {
	each(t, func(t *testing.T, b backend) {
		dsn := b.fresh(t)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { openAndClose(t, dsn) })
		}
		wg.Wait()
	})
}

func openAndClose(t *testing.T, dsn string) {
	l, err := Open(t.Context(), dsn, Options{})
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := l.Totals(t.Context()); err != nil {
		t.Error(err)
	}
	l.Close()
}

// TestPostgresRefused: a server or a database that can't keep a ledger.
func TestPostgresRefused(t *testing.T) {
	server := pgtest.Start(t, false)
	server.Exec(t, `CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'`)
	server.Exec(t, `CREATE ROLE reader LOGIN PASSWORD 'secret'`)
	at := func(user, database string) string {
		return fmt.Sprintf("postgres://%s:secret@%s/%s", user, server.Addr(), database)
	}
	empty := server.Schema(t)
	for _, c := range []struct {
		name, dsn string
		opts      Options
		want      string
	}{
		{"no server", "postgres://u:secret@127.0.0.1:1/db", Options{}, "refused"},
		{"bad port", "postgres://u:secret@127.0.0.1:x/db", Options{}, "port"},
		{"no database", at("cairn", "none"), Options{}, "make it with createdb"},
		{"no role", at("nobody", "cairn"), Options{}, `role "nobody" does not exist`},
		{"encoding", at("cairn", "latin"), Options{}, "encoding is LATIN1, want UTF8"},
		{"empty, read-only", empty, Options{ReadOnly: true}, "not a ledger"},
		{"may not write", at("reader", "cairn"), Options{}, "permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := Open(t.Context(), c.dsn, c.opts)
			if err == nil {
				l.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v; want one with %q", err, c.want)
			}
		})
	}
	// A reader that comes before the first who settles waits.
	if _, err := Open(t.Context(), empty, Options{ReadOnly: true}); !IsAway(err) {
		t.Errorf("no ledger yet: %v; want it said to be away", err)
	}
	openLedger(t, empty, Options{}).Close()
	query[int](t, empty, `WITH x AS (INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, true)) SELECT 1`)
	if _, err := Open(t.Context(), empty, Options{ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "version 999") || IsAway(err) {
		t.Errorf("a newer schema: %v", err)
	}
}

// TestPostgresReadOnly: a role that may read and no more is enough to verify,
// and a ledger opened read-only can't write whoever it is.
func TestPostgresReadOnly(t *testing.T) {
	const shards = 2
	server := pgtest.Start(t, false)
	store := provision(t, shards)
	newHistory(t, store, 23).some(shards, 10)
	dsn := server.Schema(t)
	w := openLedger(t, dsn, fast)
	start(t, w, store)
	eventually(t, "all settled", func() bool { return settled(t, w, store, shards) })

	schema := query[string](t, dsn, `SELECT current_schema()`)
	server.Exec(t, fmt.Sprintf(`CREATE ROLE auditor LOGIN; GRANT USAGE ON SCHEMA %s TO auditor; GRANT SELECT ON ALL TABLES IN SCHEMA %[1]s TO auditor`, schema))
	for name, dsn := range map[string]string{"auditor": strings.Replace(dsn, "cairn@", "auditor@", 1), "owner": dsn} {
		r := openLedger(t, dsn, Options{ReadOnly: true})
		checkBooks(t, r, store, shards)
		if err := r.Run(t.Context(), store); !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: Run: %v, want %v", name, err, ErrReadOnly)
		}
		if _, err := r.read.ExecContext(t.Context(), `DELETE FROM balances`); err == nil {
			t.Errorf("%s: deleted from a ledger opened read-only", name)
		}
	}
}

// TestPostgresView: a view sees one moment, for as long as it likes, by
// several who ask at once.
func TestPostgresView(t *testing.T) {
	store := provision(t, 1)
	h := newHistory(t, store, 24)
	h.write(0, h.claims(50))
	opts := fast
	opts.AnswerWithin = 100 * time.Millisecond
	l := openLedger(t, backends[1].fresh(t), opts)
	start(t, l, store)
	eventually(t, "all settled", func() bool { return settled(t, l, store, 1) })
	v, err := l.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	h.write(0, h.claims(50))
	eventually(t, "all settled", func() bool { return settled(t, l, store, 1) })
	// Longer than a statement, or a pause in a transaction, may be elsewhere.
	if _, err := v.tx.ExecContext(t.Context(), `SELECT pg_sleep(0.3)`); err != nil {
		t.Fatal(err)
	}
	if _, err := l.read.ExecContext(t.Context(), `SELECT pg_sleep(60)`); err == nil || !strings.Contains(err.Error(), "statement timeout") {
		t.Errorf("a statement of a minute: %v, want it to be ended", err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			n := 0
			if err := v.Map(t.Context(), "oslo-winter", 0, func(*Row) error { n++; return nil }); err != nil || n != 50 {
				t.Errorf("Map: %d entries, %v; want the 50 from before", n, err)
			}
		})
	}
	wg.Wait()
}

// TestPostgresIntegrity: the keys that make an entry unique are missed.
func TestPostgresIntegrity(t *testing.T) {
	dsn := backends[1].fresh(t)
	l := openLedger(t, dsn, fast)
	if _, err := l.write.ExecContext(t.Context(), `ALTER TABLE entries DROP CONSTRAINT entries_pkey; ALTER TABLE entries ADD PRIMARY KEY (hunt, map, tile, player)`); err != nil {
		t.Fatal(err)
	}
	v, err := l.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	problems, err := v.Integrity(t.Context())
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0], "table entries has no PRIMARY KEY (hunt, map, tile)") {
		t.Errorf("Integrity: %q, %v; want that entries has lost its key", problems, err)
	}
}

// TestCommitsDurable: a server whose commits need not be on disk is told that
// these must.
func TestCommitsDurable(t *testing.T) {
	b := backends[1]
	for set, want := range map[string]string{"off": "on", "remote_apply": "remote_apply"} {
		l := openLedger(t, with(t, b.fresh(t), "synchronous_commit", set), fast)
		var got string
		if err := l.write.QueryRowContext(t.Context(), `SHOW synchronous_commit`).Scan(&got); err != nil || got != want {
			t.Errorf("synchronous_commit with %s: %s, %v; want %s", set, got, err, want)
		}
	}
}

// TestIsAway tells what says something of the database's being there from what
// says something of what is in it.
func TestIsAway(t *testing.T) {
	pg := func(code string) error { return fmt.Errorf("x: %w", &pgconn.PgError{Code: code}) }
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{pg("57P01"), true}, // admin_shutdown
		{pg("53300"), true}, // too_many_connections
		{pg("08006"), true},
		{pg("25P03"), true},
		{pg("XX002"), false}, // index_corrupted
		{pg("42P01"), false}, // undefined_table
		{io.ErrUnexpectedEOF, true},
		{driver.ErrBadConn, true},
		{errors.New("chain hash of shard 2 has 1 bytes"), false},
	} {
		if got := IsAway(c.err); got != c.want {
			t.Errorf("IsAway(%v): %v, want %v", c.err, got, c.want)
		}
	}
}
