package ledger

import (
	"cmp"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/ledger/pgtest"
)

// The backlog that is settled: as many records of so many claims a shard.
const (
	benchShards  = 24
	benchRecords = 20
	benchClaims  = 100
	benchRows    = benchShards * benchRecords * benchClaims
)

func benchStore(b *testing.B) eventlog.Store {
	store := provision(b, benchShards)
	h := newHistory(b, store, 15)
	for shard := range benchShards {
		var recs [][]cairn.Claim
		for range benchRecords {
			recs = append(recs, h.claims(benchClaims))
		}
		h.write(shard, recs...)
	}
	return store
}

// BenchmarkSettle settles a backlog: log, decoding, transactions and fsync,
// all of it. Beside it, in the same run and on the same server, its peer: the
// same rows into a table of the same form, by COPY, 4,096 a transaction, with
// no offsets, sums or balances.
//
//	go test -run '^$' -bench Settle ./internal/ledger
func BenchmarkSettle(b *testing.B) {
	store := benchStore(b)
	server := pgtest.Start(b, true)
	for _, db := range []struct {
		name  string
		fresh func(b *testing.B) string
	}{
		{"sqlite", func(b *testing.B) string { return "sqlite:" + filepath.Join(b.TempDir(), "ledger.db") }},
		{"postgres", func(b *testing.B) string { return server.Schema(b) }},
	} {
		b.Run(db.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				l := openLedger(b, db.fresh(b), Options{})
				b.StartTimer()
				stop := start(b, l, store)
				eventually(b, "all settled", func() bool { return settled(b, l, store, benchShards) })
				stop()
				b.StopTimer()
				l.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*benchRows)/b.Elapsed().Seconds(), "entries/s")
		})
	}
	b.Run("copy", func(b *testing.B) { benchCopy(b, server, store) })
}

// benchCopy is the peer: PostgreSQL's own way to take many rows.
func benchCopy(b *testing.B, server *pgtest.Server, store eventlog.Store) {
	inOrder := slices.SortedFunc(maps.Values(foldLogs(b, store, benchShards).Rows), func(x, y Row) int {
		return cmp.Or(cmp.Compare(x.Place.Shard, y.Place.Shard), cmp.Compare(x.Place.Epoch, y.Place.Epoch),
			cmp.Compare(x.Place.Seq, y.Place.Seq), cmp.Compare(x.Place.Index, y.Place.Index))
	})
	var rows [][]any
	for _, r := range inOrder {
		rows = append(rows, []any{
			string(r.Hunt), int64(r.Tick), int64(r.Tile), string(r.Player), r.Name, r.Geohash, int64(r.Reward), int64(r.At),
			int64(r.Place.Shard), int64(r.Place.Epoch), int64(r.Place.Seq), int64(r.Place.Index),
		})
	}
	columns := []string{"hunt", "map", "tile", "player", "name", "cell", "reward", "at", "shard", "epoch", "seq", "idx"}
	ctx := context.Background()
	for b.Loop() {
		b.StopTimer()
		dsn := server.Schema(b)
		openLedger(b, dsn, Options{}).Close() // makes the table
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for first := 0; first < len(rows); first += 4096 {
			if _, err := conn.CopyFrom(ctx, pgx.Identifier{"entries"}, columns, pgx.CopyFromRows(rows[first:min(first+4096, len(rows))])); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		conn.Close(ctx)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N*len(rows))/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkRewards reads a page of 50 entries of a player who has thousands.
func BenchmarkRewards(b *testing.B) {
	store := provision(b, 1)
	h := newHistory(b, store, 16)
	var recs [][]cairn.Claim
	for range 400 {
		recs = append(recs, h.claims(100))
	}
	h.write(0, recs...)
	for _, db := range backends {
		b.Run(db.name, func(b *testing.B) {
			l := openLedger(b, db.fresh(b), fast)
			stop := start(b, l, store)
			eventually(b, "all settled", func() bool { return settled(b, l, store, 1) })
			stop()
			_, cursor, err := l.Rewards(b.Context(), "p01", "", PageMax)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, _, err := l.Rewards(b.Context(), "p01", cursor, PageDefault); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
