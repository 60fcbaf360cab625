package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/wire"
)

const (
	simShards = 8
	simTiles  = 48
	simHunt   = cairn.HuntID("oslo")
)

// A world is a fleet in one process: real claim services, owners and gateways
// on a real log, over a network and a registry that can fail.
type world struct {
	t     testing.TB
	store *filelog.Store
	net   *fakeNet
	reg   *flakyRegistry
	procs map[string]*proc // of the claims role, that run
	mu    sync.Mutex
	first cairn.Tick // of the first map
	tick  cairn.Tick // of the newest map that is open
	seen  history
}

// newWorld provisions the logs and opens a hunt. All is over when the test is.
func newWorld(t testing.TB) *world {
	store, err := filelog.Open("sim", filelog.Options{FS: vfs.NewMem()})
	must(t, err)
	w := &world{t: t, store: store, net: newFakeNet(), reg: &flakyRegistry{}, procs: map[string]*proc{}}
	specs := []eventlog.Spec{{Name: eventlog.Maps}, {Name: eventlog.Control}}
	for i := range simShards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	must(t, store.Provision(t.Context(), specs...))
	ctrl, err := store.Open(t.Context(), eventlog.Control)
	must(t, err)
	cell := cairn.CellOfBits(1, 1)
	h := cairn.Hunt{Name: simHunt, Region: cairn.Region{Geohash: &cell}, TilesPerMap: simTiles, Shards: simShards}.WithDefaults()
	for _, c := range []cairn.Change{{Hunt: simHunt, Create: &h}, {Hunt: simHunt, State: cairn.Live}} {
		c.Who, c.When = "sim", cairn.InstantOf(time.Now())
		body, err := wire.AppendChange(nil, &c)
		must(t, err)
		_, err = ctrl.Append(t.Context(), body, eventlog.Offset{})
		must(t, err)
	}
	must(t, ctrl.Close())
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// generate emits a map a second, 300ms before it opens, until ctx ends.
func (w *world) generate(ctx context.Context) {
	maps, err := w.store.Open(ctx, eventlog.Maps)
	must(w.t, err)
	defer maps.Close()
	for tick := cairn.Tick(time.Now().Unix()); ctx.Err() == nil; tick++ {
		m := simMap(tick)
		for _, body := range [][]byte{wire.AppendMapChunk(nil, m, 0), wire.AppendMapHeader(nil, &m.MapHeader)} {
			if _, err := maps.Append(context.WithoutCancel(ctx), body, eventlog.Offset{}); err != nil {
				w.t.Errorf("maps: %v", err)
				return
			}
		}
		sleep(ctx, time.Until(m.Opens.Time()))
		w.mu.Lock()
		if w.tick = tick; w.first == 0 {
			w.first = tick
		}
		w.mu.Unlock()
		sleep(ctx, 700*time.Millisecond)
	}
}

func simMap(tick cairn.Tick) *cairn.Map {
	m := &cairn.Map{MapHeader: cairn.MapHeader{
		Hunt: simHunt, Tick: tick, Opens: cairn.Instant(tick) * 1_000_000, Shards: simShards, Tiles: simTiles,
	}}
	m.Closes = m.Opens.Add(30 * time.Second)
	for i := range simTiles {
		m.Tiles = append(m.Tiles, cairn.Tile{Cell: cairn.CellOfBits(uint64(i), 8), Reward: 1, Puzzle: cairn.Tap})
		m.Offer++
	}
	m.Budget = m.Offer
	m.Digest = wire.MapDigest(m)
	return m
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// A proc is one run of a claims process.
type proc struct {
	name    string
	host    *fakeHost
	service *claim.Service
	owner   *Owner
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

// start runs a claims process of that name.
func (w *world) start(name string) *proc {
	h := w.net.host(name + ":1")
	p := &proc{name: name, host: h}
	p.service = claim.New(&gatedStore{w.store, h}, puzzle.New([32]byte{1}), claim.Options{Shards: simShards, Standby: true})
	var err error
	p.owner, err = NewOwner(p.service, &gatedRegistry{w.reg, h}, OwnerOptions{Name: name, Addr: name + ":1", Dial: h.dial})
	must(w.t, err)
	ln := h.listen()
	srv := Server(p.owner.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	p.ended.Go(func() { _ = srv.Serve(ln) })
	p.ended.Go(func() {
		if err := p.service.Run(ctx); err != nil && h.alive(context.Background()) == nil {
			w.t.Errorf("%s: %v", name, err)
		}
	})
	p.ended.Go(func() { _ = p.owner.Run(ctx) })
	p.stop = func() {
		cancel()
		srv.Close()
		h.kill()
		p.ended.Wait()
	}
	w.procs[name] = p
	return p
}

// kill ends a process as kill -9 does.
func (w *world) kill(p *proc) {
	delete(w.procs, p.name)
	p.host.kill()
	p.stop()
}

// drain ends a process in good order.
func (w *world) drain(p *proc) {
	delete(w.procs, p.name)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p.owner.Drain(ctx)
	p.stop()
}

// served reports whether each shard is served by the one it falls to.
func (w *world) served() error {
	for _, p := range w.procs {
		if err := p.owner.Ready(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for shard := range simShards {
		n := 0
		for _, p := range w.procs {
			if p.service.Holding(shard) == claim.Serving {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("shard %d is served by %d processes, want 1", shard, n)
		}
	}
	return nil
}

// until waits, for at most the given time, until check returns nil.
func (w *world) until(within time.Duration, what string, check func() error) time.Duration {
	w.t.Helper()
	began := time.Now()
	for {
		err := check()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > within {
			w.t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// gateway runs Claims on a host of its own.
func (w *world) gateway(name string, known bool) (*Claims, func()) {
	h := w.net.host(name)
	opts := ClaimsOptions{Shards: simShards, Dial: h.dial}
	if known {
		opts.ShardsOf = func(cairn.HuntID, cairn.Tick) (int, bool) { return simShards, true }
	}
	c := NewClaims(&gatedRegistry{w.reg, h}, opts)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	return c, func() {
		cancel()
		wg.Wait()
		h.kill()
	}
}

// A flakyRegistry is a Local that can be away or slow.
type flakyRegistry struct {
	Local
	mu   sync.Mutex
	away bool
	slow time.Duration
}

func (r *flakyRegistry) set(away bool, slow time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away, r.slow = away, slow
}

// forget loses all leases.
func (r *flakyRegistry) forget() {
	r.Local.mu.Lock()
	defer r.Local.mu.Unlock()
	r.roles = nil
}

func (r *flakyRegistry) reach(ctx context.Context) error {
	r.mu.Lock()
	away, slow := r.away, r.slow
	r.mu.Unlock()
	sleep(ctx, slow)
	if away {
		return errors.New("the registry is away")
	}
	return ctx.Err()
}

// A gatedRegistry is the registry as one process reaches it.
type gatedRegistry struct {
	*flakyRegistry
	host *fakeHost
}

func (g *gatedRegistry) reach(ctx context.Context) error {
	if err := g.host.alive(ctx); err != nil {
		return err
	}
	if g.host.isCut() {
		<-ctx.Done()
		return ctx.Err()
	}
	return g.flakyRegistry.reach(ctx)
}

func (g *gatedRegistry) Beat(ctx context.Context, role string, m Member, ttl time.Duration) (bool, error) {
	if err := g.reach(ctx); err != nil {
		return false, err
	}
	return g.flakyRegistry.Beat(ctx, role, m, ttl)
}

func (g *gatedRegistry) Members(ctx context.Context, role string) ([]Member, error) {
	if err := g.reach(ctx); err != nil {
		return nil, err
	}
	ms, err := g.flakyRegistry.Members(ctx, role)
	if err := g.host.alive(ctx); err != nil { // an answer may come late, too
		return nil, err
	}
	return ms, err
}

func (g *gatedRegistry) Leave(ctx context.Context, role string, m Member) error {
	if err := g.reach(ctx); err != nil {
		return err
	}
	return g.flakyRegistry.Leave(ctx, role, m)
}

// A gatedStore is the store as one process reaches it: a paused process sends
// nothing and hears nothing, and of one that was killed an append in flight
// lands or does not.
type gatedStore struct {
	eventlog.Store
	host *fakeHost
}

func (s *gatedStore) Status(ctx context.Context, log eventlog.Name) (eventlog.Status, error) {
	if err := s.host.alive(ctx); err != nil {
		return eventlog.Status{}, err
	}
	return s.Store.Status(ctx, log)
}

func (s *gatedStore) Open(ctx context.Context, log eventlog.Name) (eventlog.Writer, error) {
	if err := s.host.alive(ctx); err != nil {
		return nil, err
	}
	w, err := s.Store.Open(ctx, log)
	if err == nil {
		err = s.host.alive(ctx)
	}
	if err != nil {
		return nil, err
	}
	return &gatedWriter{w, s.host}, nil
}

func (s *gatedStore) Follow(ctx context.Context, log eventlog.Name, after eventlog.Offset) (eventlog.Follower, error) {
	if err := s.host.alive(ctx); err != nil {
		return nil, err
	}
	f, err := s.Store.Follow(ctx, log, after)
	if err != nil {
		return nil, err
	}
	return &gatedFollower{f, s.host}, nil
}

type gatedWriter struct {
	eventlog.Writer
	host *fakeHost
}

func (w *gatedWriter) Append(ctx context.Context, body []byte, from eventlog.Offset) (eventlog.Offset, error) {
	if err := w.host.alive(ctx); err != nil {
		return eventlog.Offset{}, fmt.Errorf("%w: %w", eventlog.ErrUnknown, err)
	}
	time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // on its way to the log
	off, err := w.Writer.Append(ctx, body, from)
	if dead := w.host.alive(ctx); dead != nil { // nobody hears it
		return eventlog.Offset{}, fmt.Errorf("%w: %w", eventlog.ErrUnknown, dead)
	}
	return off, err
}

type gatedFollower struct {
	eventlog.Follower
	host *fakeHost
}

func (f *gatedFollower) Next(ctx context.Context) ([]eventlog.Record, eventlog.Offset, error) {
	recs, durable, err := f.Follower.Next(ctx)
	if dead := f.host.alive(ctx); dead != nil {
		return nil, durable, dead
	}
	return recs, durable, err
}

// end stops all that runs.
func (w *world) end(stops ...func()) {
	for _, p := range w.procs {
		w.kill(p)
	}
	for _, stop := range stops {
		stop()
	}
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) epoch(shard int) uint64 {
	st, err := w.store.Status(w.t.Context(), eventlog.Shard(shard))
	must(w.t, err)
	return st.Last.Epoch
}
