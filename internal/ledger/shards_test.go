package ledger

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/ledger/pgtest"
)

// owned are Shards that a test moves about.
type owned struct {
	mu      sync.Mutex
	mine    map[int]bool
	changed chan struct{}
}

func owns(shards ...int) *owned {
	o := &owned{changed: make(chan struct{})}
	o.set(shards...)
	return o
}

func (o *owned) set(shards ...int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mine = map[int]bool{}
	for _, s := range shards {
		o.mine[s] = true
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *owned) Owns(shard int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mine[shard]
}

func (o *owned) Changed() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.changed
}

// TestOwned: a ledger settles the shards that are its own, no others, and
// those that it gets at once.
func TestOwned(t *testing.T) { each(t, testOwned) }

func testOwned(t *testing.T, b backend) {
	const shards = 4
	store := provision(t, shards)
	h := newHistory(t, store, 31)
	h.some(shards, 5)
	mine := owns(0, 2)
	reg := prometheus.NewRegistry()
	opts := fast
	opts.Shards, opts.Metrics = mine, reg
	l := openLedger(t, b.fresh(t), opts)
	start(t, l, store)
	upTo := func(shard int) bool {
		m, err := l.Settled(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		st, err := store.Status(t.Context(), eventlog.Shard(shard))
		if err != nil {
			t.Fatal(err)
		}
		return m[shard] == st.Last
	}
	eventually(t, "its own are settled", func() bool { return upTo(0) && upTo(2) && l.Lag() == 0 })
	if upTo(1) || upTo(3) {
		t.Error("it settled what is another's")
	}
	if lag := gauge(t, reg, "cairn_ledger_lag_records"); lag != 0 {
		t.Errorf("lag: got %v, want 0: others' shards do not count", lag)
	}
	mine.set(1, 2)
	eventually(t, "the new one is settled", func() bool { return upTo(1) })
	h.write(0, h.claims(3))
	h.write(2, h.claims(3))
	eventually(t, "the one that stayed is settled", func() bool { return upTo(2) && l.Lag() == 0 })
	if upTo(0) {
		t.Error("it settled what it had let go of")
	}
	mine.set()
	mine.set(0, 1, 2, 3)
	eventually(t, "all are settled", func() bool { return settled(t, l, store, shards) && l.Lag() == 0 })
	checkBooks(t, l, store, shards)
	if err := l.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
}

// TestSharesMove: two ledgers on one database share shards that move between
// them at random, overlap and are nobody's, while claims are made and Redis'
// owners change. Each claim is paid once, and neither halts.
func TestSharesMove(t *testing.T) { each(t, testSharesMove) }

func testSharesMove(t *testing.T, b backend) {
	const shards = 6
	store := provision(t, shards)
	dsn := b.fresh(t)
	opts := fast
	opts.RowsMax = 16
	shares := [2]*owned{owns(), owns()}
	var ledgers [2]*Ledger
	for i := range ledgers {
		opts.Shards = shares[i]
		ledgers[i] = openLedger(t, dsn, opts)
		start(t, ledgers[i], store)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		rnd := rand.New(rand.NewPCG(32, 0))
		for ctx.Err() == nil {
			var some []int
			for shard := range shards {
				if rnd.IntN(2) == 0 {
					some = append(some, shard)
				}
			}
			shares[rnd.IntN(2)].set(some...)
			sleep(ctx, opts.CommitEvery*2)
		}
	})
	h := newHistory(t, store, 33)
	for range 40 {
		h.some(shards, 4)
	}
	cancel()
	wg.Wait()
	shares[0].set(0, 1, 2, 3)
	shares[1].set(2, 3, 4, 5)
	h.some(shards, 4)
	eventually(t, "all settled", func() bool { return settled(t, ledgers[0], store, shards) })
	eventually(t, "both know", func() bool {
		return ledgers[0].Lag() == 0 && ledgers[1].Lag() == 0 && ledgers[0].Ready() == nil && ledgers[1].Ready() == nil
	})
	checkBooks(t, ledgers[1], store, shards)
}

// TestSharesMoveWhileAway: the database is away while shards move from one
// ledger to the other. Each knows how far its own are behind; when it is back
// all is settled, once.
func TestSharesMoveWhileAway(t *testing.T) {
	const shards = 4
	server := pgtest.Start(t, false)
	dsn := server.Schema(t)
	store := provision(t, shards)
	h := newHistory(t, store, 34)
	shares := [2]*owned{owns(0, 1, 2, 3), owns()}
	var ledgers [2]*Ledger
	for i := range ledgers {
		opts := fast
		opts.Shards = shares[i]
		ledgers[i] = openLedger(t, dsn, opts)
		start(t, ledgers[i], store)
	}
	h.some(shards, 5)
	eventually(t, "all settled", func() bool { return settled(t, ledgers[0], store, shards) })
	server.Kill()
	h.some(shards, 50)
	eventually(t, "the first fails", func() bool { return ledgers[0].Ready() != nil })
	shares[0].set(0, 1)
	shares[1].set(2, 3)
	eventually(t, "each counts its own", func() bool {
		a, b := ledgers[0].Lag(), ledgers[1].Lag()
		return a >= 100 && a < 150 && b >= 100 && b < 150
	})
	eventually(t, "the second fails, too", func() bool { return ledgers[1].Ready() != nil })
	h.some(shards, 50)
	for _, l := range ledgers { // so that dead connections are known
		if _, err := l.Balance(t.Context(), "p01"); err == nil {
			t.Error("Balance with the server away: no error")
		}
	}
	server.Start(t)
	eventually(t, "all settled", func() bool { return settled(t, ledgers[0], store, shards) })
	eventually(t, "both know", func() bool {
		return ledgers[0].Lag() == 0 && ledgers[1].Lag() == 0 && ledgers[0].Ready() == nil && ledgers[1].Ready() == nil
	})
	checkBooks(t, ledgers[1], store, shards)
}

// A shortStore shows some of a log's end as not there, as a log does that lost
// it in a failover, until its owner appends it again.
type shortStore struct {
	eventlog.Store
	mu    sync.Mutex
	short bool
}

func (s *shortStore) set(short bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.short = short
}

func (s *shortStore) Status(ctx context.Context, log eventlog.Name) (eventlog.Status, error) {
	st, err := s.Store.Status(ctx, log)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.short && log == eventlog.Shard(0) {
		st.Last = eventlog.GenesisOffset
	}
	return st, err
}

// TestHaltEnds: a shard whose log is repaired is settled again, with nothing
// done.
func TestHaltEnds(t *testing.T) { each(t, testHaltEnds) }

func testHaltEnds(t *testing.T, b backend) {
	const shards = 2
	store := &shortStore{Store: provision(t, shards)}
	h := newHistory(t, store, 35)
	h.some(shards, 5)
	mine := owns(0, 1)
	opts := fast
	opts.Shards = mine
	l := openLedger(t, b.fresh(t), opts)
	start(t, l, store)
	eventually(t, "all settled", func() bool { return settled(t, l, store, shards) })
	store.set(true)
	mine.set(1)
	eventually(t, "let go of", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.shards) == 1 })
	mine.set(0, 1)
	eventually(t, "halted", func() bool { return errors.Is(l.Ready(), eventlog.ErrDiverged) })
	store.set(false)
	eventually(t, "goes on", func() bool { return l.Ready() == nil })
	h.some(shards, 5)
	eventually(t, "all settled", func() bool { return settled(t, l, store, shards) })
	checkBooks(t, l, store, shards)
}
