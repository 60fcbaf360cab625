package ledger

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// TestSettles: what the logs hold, the ledger holds, as it is written and
// after a restart.
func TestSettles(t *testing.T) { each(t, testSettles) }

func testSettles(t *testing.T, b backend) {
	const shards = 5
	store := provision(t, shards)
	h := newHistory(t, store, 2)
	h.some(shards, 10)
	dsn := b.fresh(t)
	reg := prometheus.NewRegistry()
	opts := fast
	opts.Metrics = reg
	l := openLedger(t, dsn, opts)
	if err := l.Ready(); err == nil {
		t.Error("Ready before Run: got nil, want an error")
	}
	stop := start(t, l, store)
	h.some(shards, 10) // while it runs
	eventually(t, "all settled", func() bool { return settled(t, l, store, shards) })
	checkBooks(t, l, store, shards)
	eventually(t, "no lag", func() bool { return l.Lag() == 0 })
	if err := l.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	want := foldLogs(t, store, shards)
	var conflicts int64
	for _, s := range want.Shards {
		conflicts += s.Conflicts
	}
	totals, err := l.Totals(t.Context())
	if err != nil || totals.Entries != int64(len(want.Rows)) || totals.Conflicts != conflicts || conflicts == 0 {
		t.Errorf("Totals: %+v, %v; want %d entries and %d conflicts", totals, err, len(want.Rows), conflicts)
	}
	if got := count(l.metrics.entries); got != float64(len(want.Rows)) {
		t.Errorf("cairn_ledger_entries_total: %v, want %d", got, len(want.Rows))
	}
	if got := count(l.metrics.conflicts); got != float64(conflicts) {
		t.Errorf("cairn_ledger_conflicts_total: %v, want %d", got, conflicts)
	}
	if all, err := reg.Gather(); err != nil || len(all) != 7 {
		t.Errorf("%d metrics, %v; want 7", len(all), err)
	}
	for p, bal := range want.Balances {
		if got, err := l.Balance(t.Context(), p); got != bal.total || err != nil {
			t.Errorf("Balance(%s): %d, %v; want %d", p, got, err, bal.total)
		}
	}
	if got, err := l.Balance(t.Context(), "nobody"); got != 0 || err != nil {
		t.Errorf("Balance of nobody: %d, %v; want 0", got, err)
	}
	stop()
	l.Close()

	h.some(shards, 10)
	l = openLedger(t, dsn, fast)
	start(t, l, store)
	eventually(t, "all settled", func() bool { return settled(t, l, store, shards) })
	checkBooks(t, l, store, shards)
}

// TestTwoWorkers: two ledgers on one database, both running.
func TestTwoWorkers(t *testing.T) { each(t, testTwoWorkers) }

func testTwoWorkers(t *testing.T, b backend) {
	const shards = 3
	store := provision(t, shards)
	h := newHistory(t, store, 3)
	dsn := b.fresh(t)
	opts := fast
	opts.RowsMax = 16
	one, two := openLedger(t, dsn, opts), openLedger(t, dsn, opts)
	start(t, one, store)
	start(t, two, store)
	for range 10 {
		h.some(shards, 5)
	}
	eventually(t, "all settled", func() bool { return settled(t, one, store, shards) })
	eventually(t, "both know", func() bool { return one.Lag() == 0 && two.Lag() == 0 && one.Ready() == nil && two.Ready() == nil })
	checkBooks(t, two, store, shards)
	if n := count(one.metrics.failures) + count(two.metrics.failures); n > 0 {
		t.Errorf("%v transactions failed: the workers lock each other out", n)
	}
	n := count(one.metrics.entries) + count(two.metrics.entries)
	if want := float64(len(foldLogs(t, store, shards).Rows)); n != want {
		t.Errorf("the workers wrote %v entries, want %v", n, want)
	}
}

// TestHalts: a shard that can't be settled stops, says why, and leaves the
// others alone.
func TestHalts(t *testing.T) { each(t, testHalts) }

func testHalts(t *testing.T, b backend) {
	reward := func(r cairn.Micro) func(*history) {
		return func(h *history) {
			cs := h.claims(1)
			cs[0].Reward = r
			h.write(1, h.claims(2), cs, h.claims(2))
		}
	}
	for _, c := range []struct {
		name string
		bad  func(*history)
		want error
		left int // entries of shard 1 before the bad record
	}{
		{"malformed", func(h *history) {
			w, err := h.store.Open(h.t.Context(), eventlog.Shard(1))
			if err != nil {
				h.t.Fatal(err)
			}
			if _, err := w.Append(h.t.Context(), []byte{0x01, 0xff}, eventlog.Offset{}); err != nil {
				h.t.Fatal(err)
			}
		}, wire.ErrMalformed, 0},
		{"negative reward", reward(-1), wire.ErrMalformed, 2},
		{"reward too large", reward(cairn.RewardMax + 1), wire.ErrMalformed, 2},
		{"trimmed", func(h *history) {
			h.write(1, h.claims(3), h.claims(3))
			if err := h.store.Trim(h.t.Context(), eventlog.Shard(1), eventlog.Offset{Epoch: 1, Seq: 2}); err != nil {
				h.t.Fatal(err)
			}
		}, eventlog.ErrTrimmed, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := provision(t, 3)
			h := newHistory(t, store, 4)
			h.write(0, h.claims(5))
			c.bad(h)
			h.write(2, h.claims(5))
			l := openLedger(t, b.fresh(t), fast)
			start(t, l, store)
			eventually(t, "shard 1 halted", func() bool { return errors.Is(l.Ready(), c.want) })
			h.write(0, h.claims(7))
			h.write(2, h.claims(7))
			eventually(t, "the others settled", func() bool {
				totals, err := l.Totals(t.Context())
				return err == nil && totals.Entries == int64(5+5+7+7+c.left)
			})
			if c.want == eventlog.ErrTrimmed && !strings.Contains(l.Ready().Error(), "restore a newer ledger") {
				t.Errorf("Ready: %v; want what mends it", l.Ready())
			}
			if l.halted() != 1 {
				t.Errorf("halted shards: %d, want 1", l.halted())
			}
			if l.Lag() == 0 {
				t.Error("Lag: 0 with a shard that is halted")
			}
		})
	}
}

// TestDiverged: a ledger meets logs that are not those it settled.
func TestDiverged(t *testing.T) { each(t, testDiverged) }

func testDiverged(t *testing.T, b backend) {
	for _, c := range []struct {
		name  string
		other func(h *history)
	}{
		{"another log, longer", func(h *history) { h.write(0, h.claims(3), h.claims(3), h.claims(3)) }},
		{"another log, as long", func(h *history) { h.write(0, h.claims(3), h.claims(3)) }},
		{"shorter", func(h *history) { h.write(0, h.claims(3)) }},
		{"empty", func(*history) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dsn := b.fresh(t)
			store := provision(t, 1)
			h := newHistory(t, store, 5)
			h.write(0, h.claims(3), h.claims(3))
			l := openLedger(t, dsn, fast)
			stop := start(t, l, store)
			eventually(t, "all settled", func() bool { return settled(t, l, store, 1) })
			stop()
			before := readBooks(t, l)

			store = provision(t, 1)
			c.other(newHistory(t, store, 6))
			start(t, l, store)
			eventually(t, "halted", func() bool { return errors.Is(l.Ready(), eventlog.ErrDiverged) })
			if err := l.Ready(); !strings.Contains(err.Error(), "restore a ledger that was saved before this log was") {
				t.Errorf("Ready: %v; want what mends it", err)
			}
			if after := readBooks(t, l); len(after.Rows) != len(before.Rows) {
				t.Errorf("%d entries, want the %d from before", len(after.Rows), len(before.Rows))
			}
		})
	}
}

// TestStoreClosed: Run ends when its store is closed under it.
func TestStoreClosed(t *testing.T) { each(t, testStoreClosed) }

func testStoreClosed(t *testing.T, b backend) {
	store := provision(t, 1)
	l := openLedger(t, b.fresh(t), fast)
	done := make(chan error, 1)
	go func() { done <- l.Run(t.Context(), store) }()
	eventually(t, "settled", func() bool { return settled(t, l, store, 1) })
	store.Close()
	if err := <-done; !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("Run: %v, want %v", err, eventlog.ErrClosed)
	}
}

// TestDiscovers: a shard that is provisioned while Run runs is settled too.
func TestDiscovers(t *testing.T) { each(t, testDiscovers) }

func testDiscovers(t *testing.T, b backend) {
	t.Parallel() // it waits for discoverEvery
	store := provision(t, 1)
	l := openLedger(t, b.fresh(t), fast)
	start(t, l, store)
	eventually(t, "running", func() bool { return settled(t, l, store, 1) })
	if err := store.Provision(t.Context(), eventlog.Spec{Name: eventlog.Shard(1)}); err != nil {
		t.Fatal(err)
	}
	h := newHistory(t, store, 8)
	h.write(1, h.claims(4))
	eventually(t, "the new shard settled", func() bool { return settled(t, l, store, 2) })
	checkBooks(t, l, store, 2)
}

// count returns what a counter stands at.
func count(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		panic(err)
	}
	return m.GetCounter().GetValue()
}

// TestDurableMark: what is in the log and not known to be durable is not paid.
// A volatile log's mark moves with its fences alone.
func TestDurableMark(t *testing.T) { each(t, testDurableMark) }

func testDurableMark(t *testing.T, b backend) {
	store := openStore(t, t.TempDir())
	if err := store.Provision(t.Context(),
		eventlog.Spec{Name: eventlog.Shard(0), Volatile: true}, eventlog.Spec{Name: eventlog.Shard(1)}); err != nil {
		t.Fatal(err)
	}
	h := newHistory(t, store, 17)
	h.write(0, h.claims(3), h.claims(3)) // behind the fence, 1-0
	h.write(1, h.claims(5))
	l := openLedger(t, b.fresh(t), fast)
	start(t, l, store)
	eventually(t, "all that is durable settled", func() bool {
		m, err := l.Settled(t.Context())
		return err == nil && m[0] == eventlog.Offset{Epoch: 1} && m[1] == eventlog.Offset{Epoch: 1, Seq: 1}
	})
	h.write(1, h.claims(5)) // settled by a transaction that could take the others too
	eventually(t, "the durable shard settled", func() bool {
		totals, err := l.Totals(t.Context())
		return err == nil && totals.Entries >= 10
	})
	if totals, err := l.Totals(t.Context()); err != nil || totals.Entries != 10 {
		t.Errorf("%d entries, %v; want the 10 durable ones", totals.Entries, err)
	}
	eventually(t, "the others read", func() bool { return l.Lag() == 2 })
	h.write(0) // the next fence
	eventually(t, "all settled", func() bool { return settled(t, l, store, 2) })
	checkBooks(t, l, store, 2)
}
