package peer

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed schema.sql
var schema string

// A Locking is how two transactions that want one tile are kept apart.
type Locking string

// The ways of locking.
const (
	ForUpdate    Locking = "for-update"   // SELECT … FOR UPDATE, then UPDATE, at READ COMMITTED
	IfFree       Locking = "if-free"      // UPDATE … WHERE holder IS NULL, at READ COMMITTED
	Serializable Locking = "serializable" // the same at SERIALIZABLE; what can't be ordered begins again
)

// PostgresSettings are settings of the server, as a production user has them on a machine of this
// size: every commit is on disk before it is acknowledged.
var PostgresSettings = []string{
	"shared_buffers=512MB", "synchronous_commit=on", "full_page_writes=on", "wal_buffers=16MB", "wal_compression=lz4",
	"max_wal_size=4GB", "checkpoint_timeout=15min", "random_page_cost=1.1", "effective_cache_size=2GB", "work_mem=16MB",
	"max_connections=200", "jit=off",
}

// PostgresOptions tunes the peer on PostgreSQL. The zero value is what did best
// on two cores.
type PostgresOptions struct {
	Connections int // of the pool; 0 means 16

	// Together makes one transaction of each batch of attempts, its tiles in
	// order. Without it each attempt is a transaction of its own, as a player's
	// request was; those of a batch are pipelined on one connection.
	Together bool

	RefreshEvery time.Duration // of the materialised view standings; 0 means 1 s, below 0 never
}

// postgres is the peer on PostgreSQL.
type postgres struct {
	pool     *pgxpool.Pool
	together bool

	deadlocks, serialization, retries atomic.Int64

	cancel     context.CancelFunc
	refreshing sync.WaitGroup
	refreshed  error // of the last refresh; read after refreshing.Wait
}

// OpenPostgres returns the peer that keeps tiles in a table of a database. It
// makes its tables, unless they are there.
func OpenPostgres(ctx context.Context, dsn string, locking Locking, opts PostgresOptions) (Claimer, error) {
	if opts.Connections == 0 {
		opts.Connections = 16
	}
	if opts.RefreshEvery == 0 {
		opts.RefreshEvery = time.Second
	}
	function := map[Locking]string{ForUpdate: "claim_for_update", IfFree: "claim_if_free", Serializable: "claim_if_free"}[locking]
	if function == "" {
		return nil, fmt.Errorf("peer: locking %q: want %s, %s or %s", locking, ForUpdate, IfFree, Serializable)
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("peer: PostgreSQL: %w", err)
	}
	config.MaxConns, config.MinConns = int32(opts.Connections)+2, int32(opts.Connections) // two more to refresh and to count
	if locking == Serializable {
		config.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
	}
	if err := makeTables(ctx, config.ConnConfig); err != nil {
		return nil, fmt.Errorf("peer: PostgreSQL: %w", err)
	}
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Prepare(ctx, statement, "SELECT "+function+"($1, $2, $3, $4)")
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("peer: PostgreSQL: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &postgres{pool: pool, together: opts.Together, cancel: cancel}
	if opts.RefreshEvery > 0 {
		p.refreshing.Go(func() { p.refresh(ctx, opts.RefreshEvery) })
	}
	return p, nil
}

// statement is the name of the prepared statement that claims.
const statement = "claim"

func makeTables(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var there bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('tiles') IS NOT NULL").Scan(&there); err != nil || there {
		return err
	}
	_, err = conn.Exec(ctx, schema)
	return err
}

// refresh keeps the materialised view up to date until ctx ends.
func (p *postgres) refresh(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if _, err := p.pool.Exec(ctx, "REFRESH MATERIALIZED VIEW CONCURRENTLY standings"); ctx.Err() == nil {
			p.refreshed = err
		}
	}
}

// Prepare implements [Claimer].
func (p *postgres) Prepare(ctx context.Context, maps ...*Map) error {
	for _, m := range maps {
		if _, err := p.pool.Exec(ctx, "INSERT INTO hunts VALUES ($1) ON CONFLICT DO NOTHING", m.Hunt); err != nil {
			return fmt.Errorf("peer: PostgreSQL: %w", err)
		}
		rows := pgx.CopyFromSlice(len(m.Tiles), func(i int) ([]any, error) {
			return []any{m.Hunt, m.Tick, int32(i), m.Tiles[i].Geohash, m.Tiles[i].Reward}, nil
		})
		if _, err := p.pool.CopyFrom(ctx, pgx.Identifier{"tiles"}, []string{"hunt", "tick", "tile", "geohash", "reward"}, rows); err != nil {
			return fmt.Errorf("peer: PostgreSQL: %w", err)
		}
	}
	// What autovacuum does sooner or later, so that all runs have the same plans.
	if _, err := p.pool.Exec(ctx, "VACUUM ANALYZE tiles"); err != nil {
		return fmt.Errorf("peer: PostgreSQL: %w", err)
	}
	return nil
}

// Claim implements [Claimer]. What PostgreSQL ended as a deadlock, or could not
// order, begins again until it is decided.
func (p *postgres) Claim(ctx context.Context, as []Attempt, out []Outcome) error {
	if len(as) == 0 {
		return nil
	}
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("peer: PostgreSQL: %w", err)
	}
	defer conn.Release()
	todo := make([]int, len(as))
	for i := range todo {
		todo[i] = i
	}
	if p.together { // rows are locked in one order by all
		slices.SortStableFunc(todo, func(i, j int) int { return compareTiles(&as[i], &as[j]) })
	}
	for {
		again, err := p.pipeline(ctx, conn.Conn().PgConn(), as, out, todo)
		if err != nil {
			return fmt.Errorf("peer: PostgreSQL: %w", err)
		}
		if len(again) == 0 {
			return nil
		}
		if p.together {
			p.retries.Add(1)
		} else {
			p.retries.Add(int64(len(again)))
		}
		todo = again
	}
}

func compareTiles(a, b *Attempt) int {
	return cmp.Or(cmp.Compare(a.Hunt, b.Hunt), cmp.Compare(a.Tick, b.Tick), cmp.Compare(a.Tile, b.Tile))
}

// pipeline sends the attempts of todo at once, reads what came of them, and
// returns those that must begin again.
func (p *postgres) pipeline(ctx context.Context, conn *pgconn.PgConn, as []Attempt, out []Outcome, todo []int) (again []int, err error) {
	line := conn.StartPipeline(ctx)
	defer func() { err = errors.Join(err, line.Close()) }()
	for n, i := range todo {
		a := &as[i]
		line.SendQueryPrepared(statement, [][]byte{
			[]byte(a.Hunt), strconv.AppendInt(nil, a.Tick, 10), strconv.AppendUint(nil, uint64(a.Tile), 10), []byte(a.Player),
		}, nil, nil)
		if !p.together || n == len(todo)-1 {
			line.SendPipelineSync() // ends the transaction
		}
	}
	if err := line.Flush(); err != nil {
		return nil, err
	}
	failed := error(nil)
	for n := 0; n < len(todo); {
		i := todo[n]
		out[i], err = readOutcome(line)
		if err != nil {
			if !p.mayRetry(err) {
				return nil, err
			}
			failed = err
		}
		n++
		if p.together {
			if failed != nil { // the rest of the transaction is skipped by the server
				again, n = todo, len(todo)
			} else if n < len(todo) {
				continue
			}
		} else if failed != nil {
			again = append(again, i)
		}
		failed = nil
		if err := readSync(line); err != nil {
			if !p.mayRetry(err) { // a commit, too, may find that it can't be ordered
				return nil, err
			}
			if p.together {
				again = todo
			} else {
				again = append(again, i)
			}
			if err := readSync(line); err != nil {
				return nil, err
			}
		}
	}
	return again, nil
}

// readOutcome reads the result of one attempt.
func readOutcome(line *pgconn.Pipeline) (Outcome, error) {
	r, err := line.GetResults()
	if err != nil {
		return Outcome{}, err
	}
	rows, ok := r.(*pgconn.ResultReader)
	if !ok {
		return Outcome{}, fmt.Errorf("got %T; want the rows of a claim", r)
	}
	o := Outcome{}
	n := 0
	for ; rows.NextRow(); n++ {
		holder := rows.Values()[0]
		o = Outcome{Won: holder == nil, Holder: string(holder)}
	}
	if _, err := rows.Close(); err != nil {
		return Outcome{}, err
	}
	if n != 1 || !o.Won && o.Holder == "" {
		return Outcome{}, errors.New("there is no such tile: want it prepared first")
	}
	return o, nil
}

// readSync reads the end of a transaction.
func readSync(line *pgconn.Pipeline) error {
	r, err := line.GetResults()
	if err != nil {
		return err
	}
	if _, ok := r.(*pgconn.PipelineSync); !ok {
		return fmt.Errorf("got %T; want the end of a transaction", r)
	}
	return nil
}

// mayRetry reports whether a transaction that failed may be begun again, and
// counts why.
func (p *postgres) mayRetry(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40P01":
		p.deadlocks.Add(1)
	case "40001":
		p.serialization.Add(1)
	default:
		return false
	}
	return true
}

// Tally implements [Claimer].
func (p *postgres) Tally(ctx context.Context) (t Tally, err error) {
	if err = p.pool.QueryRow(ctx, "SELECT (SELECT count(*) FROM tiles WHERE holder IS NOT NULL), (SELECT count(*) FROM claims)").
		Scan(&t.Tiles, &t.Events); err != nil {
		return Tally{}, fmt.Errorf("peer: PostgreSQL: %w", err)
	}
	return t, nil
}

// Reset implements [Claimer].
func (p *postgres) Reset(ctx context.Context) error {
	// Two transactions, for in one they would wait for locks in another order
	// than the refresh of the view does.
	for _, sql := range []string{"TRUNCATE hunts, tiles, claims", "REFRESH MATERIALIZED VIEW standings"} {
		if _, err := p.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("peer: PostgreSQL: %w", err)
		}
	}
	return nil
}

// Stats implements [Claimer].
func (p *postgres) Stats() Stats {
	return Stats{Deadlocks: p.deadlocks.Load(), Serialization: p.serialization.Load(), Retries: p.retries.Load()}
}

// Close implements [Claimer]. It returns what the last refresh of the view
// failed with, if it did.
func (p *postgres) Close() error {
	p.cancel()
	p.refreshing.Wait()
	p.pool.Close()
	if p.refreshed != nil {
		return fmt.Errorf("peer: PostgreSQL: refreshing standings: %w", p.refreshed)
	}
	return nil
}
