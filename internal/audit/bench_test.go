package audit

import (
	"testing"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/ledger"
)

// BenchmarkVerify verifies two minutes of a hunt of which half the tiles are
// claimed: 60,000 claims, 50 a record, and their entries.
func BenchmarkVerify(b *testing.B) {
	const maps = 120
	w := newWorld(b)
	store := w.openLogs()
	defer store.Close()
	h := w.hunt
	h.Name, h.TilesPerMap, h.Reward.Budget = "bergen", 1000, 1_000_000_000
	w.change(store, cairn.Change{Hunt: h.Name, Create: &h})
	w.hunt = h
	var prev cairn.Digest
	all := make([][]cairn.Claim, shards)
	for i := range maps {
		m := w.newMap(h.Name, tick0+ticks+cairn.Tick(i), prev)
		prev = m.Digest
		w.emit(store, m)
		for tile := range h.TilesPerMap / 2 {
			c, shard := w.claimOf(m, tile, m.Opens+cairn.Instant(tile))
			all[shard] = append(all[shard], c)
		}
	}
	for shard, cs := range all {
		w.claimBy(store, shard, cs, func() int { return 50 })
	}
	w.settle(store)
	led, err := ledger.Open(b.Context(), "sqlite:"+w.ledger(), ledger.Options{ReadOnly: true})
	check(b, err)
	defer led.Close()
	var claims int64
	for b.Loop() {
		r, err := Verify(b.Context(), store, led, Options{})
		if err != nil || !r.OK {
			b.Fatalf("%v\n%s", err, r)
		}
		claims += r.Claims
	}
	b.ReportMetric(float64(claims)/b.Elapsed().Seconds(), "claims/s")
}
