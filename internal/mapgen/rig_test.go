package mapgen

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/control"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/wire"
)

// tb is a *testing.T or a *rapid.T.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// A rig is a store on a file system in memory, a clock that only the test
// moves, an operator, and writers of the shards' logs.
type rig struct {
	t       tb
	ctx     context.Context
	store   eventlog.Store
	control *control.Control
	shards  []eventlog.Writer
	micros  atomic.Int64
	reg     *prometheus.Registry
	gen     *Generator
	stop    func()
	folds   map[cairn.HuntID]*mapsFold
}

const rigShards = 3

func newRig(t tb) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{t: t, ctx: ctx, reg: prometheus.NewRegistry(), folds: map[cairn.HuntID]*mapsFold{}}
	r.micros.Store(1_800_000_000_000_000)
	store, err := filelog.Open("rig", filelog.Options{FS: vfs.NewMem()})
	r.must(err)
	r.store = store
	specs := []eventlog.Spec{{Name: eventlog.Control}, {Name: eventlog.Maps}}
	for i := range rigShards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	r.must(store.Provision(ctx, specs...))
	for i := range rigShards {
		w, err := store.Open(ctx, eventlog.Shard(i))
		r.must(err)
		r.shards = append(r.shards, w)
	}
	r.control, err = control.Open(ctx, store, control.Options{Now: r.now})
	r.must(err)
	r.gen = New(store, testKey, Options{Now: r.now, Metrics: r.reg})
	r.stop = func() {
		cancel()
		store.Close()
	}
	return r
}

func rigOf(t *testing.T) *rig {
	r := newRig(t)
	t.Cleanup(r.stop)
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) now() time.Time          { return time.UnixMicro(r.micros.Load()) }
func (r *rig) instant() cairn.Instant  { return cairn.InstantOf(r.now()) }
func (r *rig) advance(d time.Duration) { r.micros.Add(d.Microseconds()) }
func (r *rig) do(ch cairn.Change) {
	r.t.Helper()
	ch.Who = "test"
	_, err := r.control.Do(r.ctx, ch)
	r.must(err)
}
func (r *rig) set(s cairn.State) { r.t.Helper(); r.do(cairn.Change{Hunt: "test", State: s}) }
func (r *rig) counter(name string) float64 {
	r.t.Helper()
	all, err := r.reg.Gather()
	r.must(err)
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	r.t.Fatalf("no metric %s", name)
	return 0
}

// hunt creates a live hunt.
func (r *rig) hunt(h cairn.Hunt) cairn.Hunt {
	r.t.Helper()
	if h.Name == "" {
		h.Name = "test"
	}
	if h.Region.Geohash == nil {
		c, err := cairn.ParseCell("u4xs")
		r.must(err)
		h.Region.Geohash = &c
	}
	if h.TilesPerMap == 0 {
		h.TilesPerMap = 10
	}
	if h.Shards == 0 {
		h.Shards = rigShards
	}
	h = h.WithDefaults()
	r.do(cairn.Change{Create: &h})
	r.do(cairn.Change{Hunt: h.Name, State: cairn.Live})
	return h
}

// A running life, with its followers.
type running struct {
	*life
	r   *rig
	end func()
}

// start begins a life without its loop: the test calls step.
func (r *rig) start() *running {
	r.t.Helper()
	l, err := r.gen.open(r.ctx)
	r.must(err)
	ctx, cancel := context.WithCancel(r.ctx)
	group, ctx := errgroup.WithContext(ctx)
	l.follow(ctx, group)
	return &running{life: l, r: r, end: func() {
		cancel()
		group.Wait()
		l.close()
	}}
}

// step waits until the life has read all logs, and steps.
func (l *running) step() cairn.Instant {
	l.r.t.Helper()
	l.catchUp()
	next, err := l.life.step(l.r.ctx)
	l.r.must(err)
	return next
}

func (l *running) catchUp() {
	l.r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !l.caughtUp() {
		if time.Now().After(deadline) {
			l.r.t.Fatal("the followers have not read to the heads after 20s")
		}
		time.Sleep(50 * time.Microsecond)
	}
}

func (l *running) caughtUp() bool {
	heads := make([]eventlog.Offset, len(l.shards))
	for i := range heads {
		st, err := l.r.store.Status(l.r.ctx, eventlog.Shard(i))
		l.r.must(err)
		heads[i] = st.Last
	}
	st, err := l.r.store.Status(l.r.ctx, eventlog.Control)
	l.r.must(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range heads {
		if l.shards[i].read.Less(heads[i]) {
			return false
		}
	}
	return !l.control.Less(st.Last)
}

// run lets time pass, stepping whenever the life wants to be called.
func (l *running) run(d time.Duration) {
	l.r.t.Helper()
	end := l.r.instant().Add(d)
	for {
		next := l.step()
		if next > end {
			l.r.advance(end.Sub(l.r.instant()))
			return
		}
		l.r.advance(max(0, next.Sub(l.r.instant())))
	}
}

func (l *running) left() cairn.Micro {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.courses["test"].purse.left
}

// A mapsFold is what a follower has of the maps log so far.
type mapsFold struct {
	at    eventlog.Offset
	fold  wire.MapFold
	field *Field
	all   []*cairn.Map
}

// maps returns all maps of a hunt in the maps log, and holds them to what
// followers may rely on: each tick once, in order, chained, as Make makes it.
func (r *rig) maps(h cairn.Hunt) []*cairn.Map {
	r.t.Helper()
	st, err := r.store.Status(r.ctx, eventlog.Maps)
	r.must(err)
	m := r.folds[h.Name]
	if m == nil {
		m = &mapsFold{}
		m.field, err = NewField(h)
		r.must(err)
		r.folds[h.Name] = m
	}
	f, err := r.store.Follow(r.ctx, eventlog.Maps, m.at)
	r.must(err)
	defer f.Close()
	for m.at.Less(st.Last) {
		recs, _, err := f.Next(r.ctx)
		r.must(err)
		for i := range recs {
			if m.at = recs[i].Offset; recs[i].Kind == eventlog.Data {
				r.must(m.apply(h, recs[i].Body))
			}
		}
	}
	return m.all
}

func (m *mapsFold) apply(h cairn.Hunt, body []byte) error {
	x, err := m.fold.Apply(body)
	if err != nil || x == nil || x.Hunt != h.Name {
		return err
	}
	prev := cairn.Digest{}
	if n := len(m.all); n > 0 {
		prev = m.all[n-1].Digest
		if x.Tick <= m.all[n-1].Tick {
			return fmt.Errorf("tick %d after tick %d", x.Tick, m.all[n-1].Tick)
		}
	}
	h.Shards = x.Shards
	field := m.field
	if h.TilesPerMap != len(x.Tiles) { // it was changed
		h.TilesPerMap = len(x.Tiles)
		if field, err = NewField(h); err != nil {
			return err
		}
	}
	if again := field.Make(testKey, &h, x.Tick, x.Budget, prev); again.Digest != x.Digest {
		return fmt.Errorf("tick %d: digest %v of the log, want %v as made again", x.Tick, x.Digest, again.Digest)
	}
	m.all = append(m.all, x)
	return nil
}

// claim makes a player win tiles of m at the clock's time.
func (r *rig) claim(m *cairn.Map, tiles ...int) (sum cairn.Micro) {
	r.t.Helper()
	return r.claimAt(r.instant(), m, tiles...)
}

func (r *rig) claimAt(at cairn.Instant, m *cairn.Map, tiles ...int) (sum cairn.Micro) {
	r.t.Helper()
	slots := cairn.SlotterOf(m.Hunt, m.Tick)
	for _, i := range tiles {
		c := cairn.Claim{
			TileRef: cairn.TileRef{Hunt: m.Hunt, Tick: m.Tick, Tile: uint32(i)},
			Cell:    m.Tiles[i].Cell, Reward: m.Tiles[i].Reward, Player: "ana", Name: "Ana", At: at,
		}
		shard := cairn.ShardOf(slots.Slot(uint32(i)), m.Shards)
		_, err := r.shards[shard].Append(r.ctx, wire.AppendClaims(nil, []cairn.Claim{c}), eventlog.GenesisOffset)
		r.must(err)
		sum += c.Reward
	}
	return sum
}

func allTiles(m *cairn.Map) (all []int) {
	for i := range m.Tiles {
		all = append(all, i)
	}
	return all
}
