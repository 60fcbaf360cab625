package ledger

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"modernc.org/sqlite"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/ledger/pgtest"
	"github.com/veltrix/cairn/internal/wire"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(child(dir, os.Getenv(childDSN)))
	}
	goleak.VerifyTestMain(tests{m})
}

// tests end with the server that they shared.
type tests struct{ *testing.M }

func (m tests) Run() int {
	defer pgtest.StopShared()
	return m.M.Run()
}

// A backend is a database that ledgers lie in. All must pass the same tests.
type backend struct {
	name   string
	fresh  func(t testing.TB) (dsn string) // of one that is empty
	writer func(t testing.TB, dsn string, opts Options) driver.Connector
}

var backends = []backend{
	{
		"sqlite",
		func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "ledger.db") },
		func(t testing.TB, dsn string, _ Options) driver.Connector {
			c, err := sqlite.NewConnector(sqliteURI(strings.TrimPrefix(dsn, "sqlite:"), writeParams()))
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
	},
	{
		"postgres",
		func(t testing.TB) string { return pgtest.Shared(t).Schema(t) },
		func(t testing.TB, dsn string, opts Options) driver.Connector {
			opts = opts.withDefaults()
			cfg, err := postgresConfig(dsn, &opts)
			if err != nil {
				t.Fatal(err)
			}
			return postgresWriter(cfg)
		},
	},
}

// each runs a test on every backend.
func each(t *testing.T, f func(t *testing.T, b backend)) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) { f(t, b) })
	}
}

// fast commits soon and retries soon, so that tests do not wait.
var fast = Options{CommitEvery: time.Millisecond, RetryMax: 20 * time.Millisecond}

func openStore(t testing.TB, dir string) *filelog.Store {
	t.Helper()
	s, err := filelog.Open(dir, filelog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// provision makes a store with n shards, and logs that are none.
func provision(t testing.TB, n int) *filelog.Store {
	t.Helper()
	s := openStore(t, t.TempDir())
	provisionIn(t, s, n)
	return s
}

func provisionIn(t testing.TB, s *filelog.Store, n int) {
	t.Helper()
	specs := []eventlog.Spec{{Name: eventlog.Maps}, {Name: eventlog.Control}, {Name: eventlog.Standings, Volatile: true}}
	for i := range n {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	if err := s.Provision(t.Context(), specs...); err != nil {
		t.Fatal(err)
	}
}

func openLedger(t testing.TB, dsn string, opts Options) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), dsn, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A history writes claims to a store, as claim services would.
type history struct {
	t     testing.TB
	store eventlog.Store
	rnd   *rand.Rand
	at    cairn.Instant
	tile  uint32
}

func newHistory(t testing.TB, store eventlog.Store, seed uint64) *history {
	return &history{t, store, rand.New(rand.NewPCG(seed, 7)), 1_760_000_000_000_000, 0}
}

// claims makes n claims of tiles that nobody has.
func (h *history) claims(n int) []cairn.Claim {
	cs := make([]cairn.Claim, n)
	for i := range cs {
		h.at += cairn.Instant(h.rnd.IntN(5000))
		h.tile++
		player := h.rnd.IntN(20)
		cs[i] = cairn.Claim{
			TileRef: cairn.TileRef{Hunt: "oslo-winter", Tick: cairn.Tick(h.tile / 100), Tile: h.tile % 100},
			Cell:    cairn.CellOfBits(h.rnd.Uint64N(1<<35), 7),
			Reward:  cairn.Micro(h.rnd.IntN(5000)),
			Player:  cairn.PlayerID(fmt.Sprintf("p%02d", player)),
			Name:    fmt.Sprintf("Åse %d", player),
			At:      h.at,
			ID:      "same-for-all",
		}
	}
	return cs
}

// write takes a shard over and appends records.
func (h *history) write(shard int, records ...[]cairn.Claim) {
	h.t.Helper()
	w, err := h.store.Open(context.Background(), eventlog.Shard(shard))
	if err != nil {
		h.t.Fatal(err)
	}
	defer w.Close()
	for _, cs := range records {
		if _, err := w.Append(context.Background(), wire.AppendClaims(nil, cs), eventlog.Offset{}); err != nil {
			h.t.Fatal(err)
		}
	}
}

// some writes records of a few claims to every shard, some of tiles that are
// taken in the same shard.
func (h *history) some(shards, records int) {
	h.t.Helper()
	for shard := range shards {
		var batch [][]cairn.Claim
		var taken []cairn.Claim
		for range records {
			cs := h.claims(1 + h.rnd.IntN(6))
			if len(taken) > 0 && h.rnd.IntN(3) == 0 {
				again := taken[h.rnd.IntN(len(taken))]
				again.Player, again.At, again.Reward = "thief", h.at, again.Reward+1
				cs = append(cs, again, again)
			}
			taken = append(taken, cs...)
			batch = append(batch, cs)
		}
		h.write(shard, batch...)
	}
}

// start runs l until the returned function is called.
func start(t testing.TB, l *Ledger, store eventlog.Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, store) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// eventually polls until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !cond() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// settled reports whether l has settled all of the shards of store.
func settled(t testing.TB, l *Ledger, store eventlog.Store, shards int) bool {
	t.Helper()
	m, err := l.Settled(context.Background())
	if err != nil {
		t.Fatal(err)
	}
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

// books is all that a ledger holds.
type books struct {
	Rows     map[cairn.TileRef]Row
	Shards   map[int]ShardSums
	Balances map[cairn.PlayerID]balance
}

// foldLogs computes what a ledger must hold from the logs.
func foldLogs(t testing.TB, store eventlog.Store, shards int) books {
	t.Helper()
	b := books{map[cairn.TileRef]Row{}, map[int]ShardSums{}, map[cairn.PlayerID]balance{}}
	for i := range shards {
		st, err := store.Status(context.Background(), eventlog.Shard(i))
		if err != nil {
			t.Fatal(err)
		}
		f, err := store.Follow(context.Background(), eventlog.Shard(i), eventlog.Offset{})
		if err != nil {
			t.Fatal(err)
		}
		var s ShardSums
		for s.Offset != st.Last {
			recs, _, err := f.Next(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range recs {
				s.Offset, s.Chain = r.Offset, r.Chain
				if r.Kind == eventlog.Data {
					b.fold(t, i, r, &s)
				}
			}
		}
		b.Shards[i] = s
		f.Close()
	}
	return b
}

func (b *books) fold(t testing.TB, shard int, r eventlog.Record, s *ShardSums) {
	cs, err := wire.DecodeClaims(nil, r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for j, c := range cs {
		if _, taken := b.Rows[c.TileRef]; taken {
			s.Conflicts++
			continue
		}
		b.Rows[c.TileRef] = Row{
			c.TileRef, c.Cell.String(), c.Reward, c.Player, c.Name, c.At,
			cairn.Place{Shard: shard, Epoch: r.Offset.Epoch, Seq: r.Offset.Seq, Index: j},
			Settled,
		}
		s.Entries++
		s.Rewards += c.Reward
		bal := b.Balances[c.Player]
		b.Balances[c.Player] = balance{bal.entries + 1, bal.total + c.Reward}
	}
}

// readBooks reads what l holds.
func readBooks(t testing.TB, l *Ledger) books {
	t.Helper()
	ctx := context.Background()
	b := books{map[cairn.TileRef]Row{}, map[int]ShardSums{}, map[cairn.PlayerID]balance{}}
	v, err := l.View(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if b.Shards, err = v.Shards(ctx); err != nil {
		t.Fatal(err)
	}
	if err := v.Rows(ctx, func(r *Row) error {
		b.Rows[r.TileRef] = *r
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := v.Balances(ctx, func(p cairn.PlayerID, entries int64, total cairn.Micro) error {
		b.Balances[p] = balance{entries, total}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if problems, err := v.Integrity(ctx); err != nil || len(problems) > 0 {
		t.Fatalf("integrity: %v %v", problems, err)
	}
	return b
}

// checkBooks holds the ledger against the fold of the logs.
func checkBooks(t testing.TB, l *Ledger, store eventlog.Store, shards int) {
	t.Helper()
	want := foldLogs(t, store, shards)
	if d := cmp.Diff(want, readBooks(t, l), cmp.AllowUnexported(balance{})); d != "" {
		t.Fatalf("ledger differs from the fold of the logs (-want +got):\n%s", d)
	}
	if len(want.Rows) == 0 {
		t.Fatal("the logs hold no claims: nothing was tested")
	}
}
