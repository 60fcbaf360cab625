package leaderboard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/fleet"
	"github.com/veltrix/cairn/internal/wire"
)

// What a fleet asks of a projection, and a projection of a fleet.
var (
	_ fleet.BoardSource = (*Projection)(nil)
	_ Leader            = (*fleet.Leader)(nil)
)

// A seat is a Leader that a test moves about.
type seat struct {
	mu      sync.Mutex
	leads   bool
	fenced  int
	changed chan struct{}
}

func newSeat() *seat { return &seat{changed: make(chan struct{})} }

func (s *seat) set(leads bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads = leads
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *seat) Leads() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leads
}

func (s *seat) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *seat) Fenced() {
	s.mu.Lock()
	s.fenced++
	s.mu.Unlock()
	s.set(false)
}

func (s *seat) wasFenced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fenced > 0
}

// newest returns the newest board of oslo in the standings log.
func (g *game) newest() *wire.Board {
	g.t.Helper()
	st, err := g.store.Status(g.t.Context(), eventlog.Standings)
	if err != nil {
		g.t.Fatal(err)
	}
	f, err := g.store.Follow(g.t.Context(), eventlog.Standings, st.Base)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	var last *wire.Board
	for at := st.Base; at.Less(st.Last); {
		recs, _, err := f.Next(g.t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		for _, r := range recs {
			if at = r.Offset; r.Kind != eventlog.Data {
				continue
			}
			bs, err := wire.DecodeBoards(r.Body)
			if err != nil {
				g.t.Fatal(err)
			}
			for _, b := range bs {
				if b.BoardKey == oslo {
					last = b
				}
			}
		}
	}
	return last
}

// TestLed: only who leads publishes. The other folds on, lags in nothing, and
// when it leads what it folded meanwhile is published with no new claim.
func TestLed(t *testing.T) {
	g := newGame(t)
	rnd := rand.New(rand.NewPCG(41, 1))
	var seats [2]*seat
	var ps [2]*Projection
	for i := range ps {
		seats[i] = newSeat()
		ps[i] = New(g.store, Options{Publish: time.Millisecond, Leader: seats[i]})
		stop := g.run(ps[i])
		defer stop()
	}
	g.play(0, 20, rnd)
	g.folded(ps[0])
	g.folded(ps[1])
	if st, err := g.store.Status(t.Context(), eventlog.Standings); err != nil || st.Last != eventlog.GenesisOffset {
		t.Errorf("nobody leads: the standings log ends at %v (%v), want its genesis", st.Last, err)
	}
	upToDate := func(p *Projection) func() bool {
		return func() bool {
			b, want := g.newest(), mustStandings(t, p)
			return b != nil && b.Players == want.Players && len(b.Rows) > 0 && b.Newest == want.Newest && p.Lag() == 0
		}
	}
	seats[0].set(true)
	until(t, "the first has published", upToDate(ps[0]))

	seats[0].set(false) // it ends, with claims that it had not published
	g.play(1, 20, rnd)
	g.folded(ps[1])
	if upToDate(ps[1])() {
		t.Error("nobody leads, and all is published")
	}
	until(t, "a standby lags in nothing", func() bool { return ps[1].Lag() == 0 })
	seats[1].set(true)
	until(t, "the second has published what it folded before", upToDate(ps[1]))

	// Both believe that they lead: one is fenced out, and says so.
	seats[0].set(true)
	until(t, "one is fenced out", func() bool {
		g.play(2, 1, rnd)
		return seats[1].wasFenced()
	})
	until(t, "the other has published", upToDate(ps[0]))
}

func mustStandings(t *testing.T, p *Projection) *wire.Board {
	t.Helper()
	b, _, err := p.Standings(t.Context(), oslo, RowsPublished)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFleet runs three projections that find out who leads over a registry.
// Whoever leads is gone without a word; another publishes.
func TestFleet(t *testing.T) {
	g := newGame(t)
	rnd := rand.New(rand.NewPCG(42, 1))
	type proc struct {
		reg    *prometheus.Registry
		leader *fleet.Leader
		stop   func()
	}
	registry := new(fleet.Local)
	procs := map[string]*proc{}
	for _, name := range []string{"a", "b", "c"} {
		p := &proc{reg: prometheus.NewRegistry()}
		var projection *Projection
		opts := fleet.MemberOptions{Name: name, Ready: func() error { return projection.Ready() }, Timing: fleet.Timing{TTL: 200 * time.Millisecond}}
		var err error
		if p.leader, err = fleet.NewLeader(gone{registry}, fleet.RoleLeaderboard, opts); err != nil {
			t.Fatal(err)
		}
		projection = New(g.store, Options{Publish: time.Millisecond, Leader: p.leader, Metrics: p.reg})
		stop := g.run(projection)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = p.leader.Run(ctx, nil) })
		p.stop = func() {
			cancel()
			wg.Wait()
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		procs[name] = p
	}
	publishing := func() (names []string) {
		for name, p := range procs {
			if metric(t, p.reg, "cairn_standings_publishing").GetGauge().GetValue() == 1 {
				names = append(names, name)
			}
		}
		return names
	}
	for len(procs) > 0 {
		var names []string
		until(t, "one publishes", func() bool {
			g.play(0, 1, rnd)
			names = publishing()
			return len(names) == 1 && procs[names[0]].leader.Leads()
		})
		procs[names[0]].stop()
		delete(procs, names[0])
	}
}

// A gone registry is one that nobody leaves: a lease ends by running out.
type gone struct{ fleet.Registry }

func (gone) Leave(context.Context, string, fleet.Member) error { return nil }

// TestFetch: a projection whose logs were trimmed past what it has on disk
// starts from the checkpoint of a peer, whole or not at all.
func TestFetch(t *testing.T) {
	g := newGame(t)
	rnd := rand.New(rand.NewPCG(43, 1))
	dir := t.TempDir()
	peer := New(g.store, Options{Checkpoint: filepath.Join(dir, "peer"), CheckpointEvery: time.Millisecond})
	if _, err := peer.Checkpoint(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a checkpoint before the first: got %v, want fs.ErrNotExist", err)
	}
	stop := g.run(peer)
	defer stop()
	var offsets map[int]eventlog.Offset
	until(t, "the peer has two checkpoints, and the logs can be trimmed", func() bool {
		for shard := range testShards {
			g.play(shard, 3, rnd)
		}
		offsets = peer.Durable()
		claimed := 0 // shards with a claim that can go: an early checkpoint has none
		for _, o := range offsets {
			if o.Seq > 1 {
				claimed++
			}
		}
		return claimed == testShards
	})
	for shard, o := range offsets {
		if err := g.store.Trim(t.Context(), eventlog.Shard(shard), o); err != nil {
			t.Fatal(err)
		}
	}

	handler := fleet.BoardsHandler(peer)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := fleet.Server(handler)
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	defer wg.Wait()
	defer srv.Close()
	registry := new(fleet.Local)
	if _, err := registry.Beat(t.Context(), fleet.RoleLeaderboard, fleet.Member{Name: "peer", Life: "1", Addr: ln.Addr().String(), State: fleet.Live}, time.Minute); err != nil {
		t.Fatal(err)
	}
	boards := fleet.NewBoards(registry, fleet.BoardsOptions{Self: "fresh"})
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() { _ = boards.Run(ctx) })
	defer cancel()

	none := New(g.store, Options{Fetch: func(context.Context) (io.ReadCloser, error) { return nil, errors.New("nobody is there") }})
	failed := make(chan error, 1)
	wg.Go(func() { failed <- none.Run(ctx) }) // it tries for some seconds

	broken := 2 // first a half, then a forged one
	fetch := func(ctx context.Context) (io.ReadCloser, error) {
		r, err := boards.Checkpoint(ctx)
		if err != nil || broken == 0 {
			return r, err
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		if broken--; broken == 1 {
			b = b[:len(b)/2]
		} else {
			b[len(b)/2] ^= 1
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	path := filepath.Join(dir, "fresh")
	fresh := New(g.store, Options{Checkpoint: path, Fetch: fetch})
	stopFresh := g.run(fresh)
	until(t, "it has caught up", func() bool { return fresh.Ready() == nil })
	g.play(0, 5, rnd)
	g.folded(fresh)
	g.folded(peer)
	if got, want := mustStandings(t, fresh), mustStandings(t, peer); got.Players != want.Players || got.Rows[0] != want.Rows[0] {
		t.Errorf("got %+v, want what the peer has", got.Rows[0])
	}
	if broken != 0 {
		t.Error("a broken checkpoint was taken")
	}
	if err := stopFresh(); err != nil {
		t.Fatal(err)
	}
	again := New(g.store, Options{Checkpoint: path})
	stopAgain := g.run(again)
	defer stopAgain()
	until(t, "it starts from its own disk", func() bool { return again.Ready() == nil })
	if err := <-failed; !errors.Is(err, eventlog.ErrTrimmed) || !strings.Contains(err.Error(), "nobody is there") {
		t.Errorf("no peer has one: got %v, want why", err)
	}
}
