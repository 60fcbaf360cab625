package ledger

import (
	"path/filepath"
	"testing"

	"github.com/veltrix/cairn"
)

// BenchmarkSettle settles a backlog of 24 shards, 100 claims a record, into an
// SQLite file: log, decoding, transactions and fsync, all of it.
//
//	go test -bench Settle ./internal/ledger
func BenchmarkSettle(b *testing.B) {
	const shards, records, each = 24, 20, 100
	store := provision(b, shards)
	h := newHistory(b, store, 15)
	for shard := range shards {
		var recs [][]cairn.Claim
		for range records {
			recs = append(recs, h.claims(each))
		}
		h.write(shard, recs...)
	}
	for b.Loop() {
		l := openLedger(b, "sqlite:"+filepath.Join(b.TempDir(), "ledger.db"), Options{})
		stop := start(b, l, store)
		eventually(b, "all settled", func() bool { return settled(b, l, store, shards) })
		stop()
		l.Close()
	}
	b.ReportMetric(float64(b.N*shards*records*each)/b.Elapsed().Seconds(), "entries/s")
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
	l := openLedger(b, "sqlite:"+filepath.Join(b.TempDir(), "ledger.db"), Options{})
	start(b, l, store)
	eventually(b, "all settled", func() bool { return settled(b, l, store, 1) })
	_, cursor, err := l.Rewards(b.Context(), "p01", "", PageMax)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := l.Rewards(b.Context(), "p01", cursor, PageDefault); err != nil {
			b.Fatal(err)
		}
	}
}
