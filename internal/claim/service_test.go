package claim

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/puzzle"
	"github.com/veltrix/cairn/internal/wire"
)

// A world is a real store with a live hunt, and the service on it.
type world struct {
	t     testing.TB
	dir   string
	store *filelog.Store
	maps  eventlog.Writer
	ctrl  eventlog.Writer

	tracer trace.Tracer // of the service; nil: none

	*Service
	stop func()
}

const testShards = 4

func newWorld(t testing.TB) *world {
	t.Helper()
	if _, test := t.(*testing.T); test {
		t.Cleanup(func() { goleak.VerifyNone(t) })
	}
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "log")}
	w.open()
	specs := []eventlog.Spec{{Name: eventlog.Maps}, {Name: eventlog.Control}}
	for i := range testShards {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	w.must(w.store.Provision(t.Context(), specs...))
	w.writers()
	cell := cairn.CellOfBits(1, 1)
	h := cairn.Hunt{Name: "oslo", Region: cairn.Region{Geohash: &cell}, TilesPerMap: 100, Shards: testShards}.WithDefaults()
	w.change(cairn.Change{Hunt: "oslo", Create: &h})
	w.change(cairn.Change{Hunt: "oslo", State: cairn.Live})
	t.Cleanup(func() {
		w.halt()
		w.must(w.store.Close())
	})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open() {
	var err error
	w.store, err = filelog.Open(w.dir, filelog.Options{})
	w.must(err)
}

func (w *world) writers() {
	var err error
	w.maps, err = w.store.Open(w.t.Context(), eventlog.Maps)
	w.must(err)
	w.ctrl, err = w.store.Open(w.t.Context(), eventlog.Control)
	w.must(err)
}

func (w *world) change(c cairn.Change) {
	w.t.Helper()
	c.Who, c.When = "test", cairn.InstantOf(time.Now())
	body, err := wire.AppendChange(nil, &c)
	w.must(err)
	_, err = w.ctrl.Append(w.t.Context(), body, eventlog.Offset{})
	w.must(err)
}

// emit puts the map of a tick into the maps log, open for its whole lifetime.
func (w *world) emit(tick cairn.Tick, kind cairn.PuzzleKind) *cairn.Map {
	w.t.Helper()
	m := testMap(tick, 100, testShards, kind)
	m.Opens = cairn.Instant(tick) * 1_000_000
	m.Closes = m.Opens.Add(30 * time.Second)
	m.Digest = wire.MapDigest(m)
	for _, body := range [][]byte{wire.AppendMapChunk(nil, m, 0), wire.AppendMapHeader(nil, &m.MapHeader)} {
		_, err := w.maps.Append(w.t.Context(), body, eventlog.Offset{})
		w.must(err)
	}
	return m
}

// nowTick is the tick that has just opened.
func nowTick() cairn.Tick { return cairn.Tick(time.Now().Unix()) }

func (w *world) start() {
	w.t.Helper()
	w.Service = New(w.store, puzzle.New(testKey), Options{Shards: testShards, Tracer: w.tracer})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}
	w.until("ready", func() bool { return w.Ready() == nil })
}

func (w *world) halt() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			w.t.Fatalf("still not %s after 10s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (w *world) attempt(tick cairn.Tick, tile uint32, player string) *cairn.Attempt {
	return &cairn.Attempt{
		TileRef: cairn.TileRef{Hunt: "oslo", Tick: tick, Tile: tile},
		Player:  cairn.PlayerID(player), Name: "name of " + player,
	}
}

func (w *world) claim(a *cairn.Attempt) cairn.Verdict {
	w.t.Helper()
	v, err := w.Claim(w.t.Context(), a)
	w.must(err)
	return v
}

// TestRace has 200 players claim one tile at once: one wins, the others hear
// who, it is one record in the log, and a restart changes nothing of it.
func TestRace(t *testing.T) {
	w := newWorld(t)
	w.start()
	m := w.emit(nowTick(), cairn.Tap)
	const players = 200
	verdicts := make([]cairn.Verdict, players)
	var wg sync.WaitGroup
	for i := range players {
		wg.Go(func() {
			v, err := w.Claim(context.Background(), w.attempt(m.Tick, 7, fmt.Sprint("p", i)))
			if err != nil {
				t.Errorf("player %d: %v", i, err)
			}
			verdicts[i] = v
		})
	}
	wg.Wait()
	var won cairn.Verdict
	for _, v := range verdicts {
		if v.Outcome == cairn.Won {
			if won.Outcome != 0 {
				t.Fatalf("%s and %s both won", won.Claim.Player, v.Claim.Player)
			}
			won = v
		}
	}
	for i, v := range verdicts {
		if v.Outcome != cairn.Won && (v.Outcome != cairn.Gone || v.Claim.Player != won.Claim.Player || v.Place != won.Place) {
			t.Errorf("player %d: got %v by %q at %v, want gone by %q at %v", i, v.Outcome, v.Claim.Player, v.Place, won.Claim.Player, won.Place)
		}
	}
	again := func(when string) {
		t.Helper()
		a := w.attempt(m.Tick, 7, string(won.Claim.Player))
		a.ClaimID = "another id"
		if v := w.claim(a); v.Outcome != cairn.Won || v.Place != won.Place || v.Claim.At != won.Claim.At {
			t.Errorf("%s: the winner hears %v at %v, want won at %v", when, v.Outcome, v.Place, won.Place)
		}
		if v := w.claim(w.attempt(m.Tick, 7, "somebody else")); v.Outcome != cairn.Gone || v.Claim.Player != won.Claim.Player || v.Claim.Name != won.Claim.Name {
			t.Errorf("%s: another hears %v by %q, want gone by %q", when, v.Outcome, v.Claim.Player, won.Claim.Player)
		}
		v, err := w.Lookup(t.Context(), a.TileRef, won.Claim.Player)
		if w.must(err); v.Outcome != cairn.Won || v.Place != won.Place {
			t.Errorf("%s: looking it up: got %v at %v, want won at %v", when, v.Outcome, v.Place, won.Place)
		}
	}
	again("at once")
	w.halt()
	w.must(w.store.Close())
	w.open()
	w.writers()
	w.start()
	again("after a restart")
	if st, err := w.store.Status(t.Context(), eventlog.Shard(won.Place.Shard)); err != nil || st.Last.Epoch != 2 || st.Last.Seq != 0 {
		t.Errorf("the shard's head: got %v (%v), want the second fence directly behind one record", st.Last, err)
	}
}

// TestFencedOwner fences the service's shards while claims run: what was
// answered won stays won, and every attempt is decided in the end.
func TestFencedOwner(t *testing.T) {
	w := newWorld(t)
	w.start()
	m := w.emit(nowTick(), cairn.Tap)
	won := make([]cairn.Verdict, len(m.Tiles))
	var wg sync.WaitGroup
	for tile := range m.Tiles {
		wg.Go(func() {
			for {
				v, err := w.Claim(context.Background(), w.attempt(m.Tick, uint32(tile), fmt.Sprint("p", tile)))
				if err == nil && v.Outcome == cairn.Won {
					won[tile] = v
					return
				}
				if err != nil && !errors.Is(err, ErrUnavailable) || err == nil && v.Outcome != cairn.Pending {
					t.Errorf("tile %d: got %v, %v", tile, v.Outcome, err)
					return
				}
			}
		})
		if tile%10 == 0 {
			intruder, err := w.store.Open(t.Context(), eventlog.Shard(tile/10%testShards))
			w.must(err)
			w.must(intruder.Close())
		}
	}
	wg.Wait()
	for tile, v := range won {
		if got := w.claim(w.attempt(m.Tick, uint32(tile), "a late one")); got.Outcome != cairn.Gone || got.Claim.Player != v.Claim.Player || got.Place != v.Place {
			t.Errorf("tile %d: got %v by %q at %v, want gone by %q at %v", tile, got.Outcome, got.Claim.Player, got.Place, v.Claim.Player, v.Place)
		}
	}
}

// TestMapsThatAreNotThere says what is known of maps that were never folded.
func TestMapsThatAreNotThere(t *testing.T) {
	w := newWorld(t)
	w.start()
	now := nowTick()
	m := w.emit(now, cairn.Tap)
	for _, c := range []struct {
		what string
		a    *cairn.Attempt
		want cairn.Outcome
		err  error
	}{
		{"open", w.attempt(now, 0, "ana"), cairn.Won, nil},
		{"no such tile", w.attempt(now, uint32(len(m.Tiles)), "ana"), cairn.UnknownTile, nil},
		{"far ahead", w.attempt(now+60, 0, "ana"), cairn.UnknownTile, nil},
		{"below zero", w.attempt(-1, 0, "ana"), cairn.UnknownTile, nil},
		{"should be there", w.attempt(now-1, 0, "ana"), 0, ErrUnavailable},
		{"skipped", w.attempt(now-60, 0, "ana"), cairn.UnknownTile, nil},
		{"long closed", w.attempt(now-10_000, 0, "ana"), cairn.Closed, nil},
		{"no such hunt", &cairn.Attempt{TileRef: cairn.TileRef{Hunt: "nowhere", Tick: now}, Player: "ana"}, cairn.UnknownTile, nil},
	} {
		v, err := w.Claim(t.Context(), c.a)
		if v.Outcome != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, %v; want %v, %v", c.what, v.Outcome, err, c.want, c.err)
		}
	}
}

// TestMapThatComesLate claims on a map before it was folded.
func TestMapThatComesLate(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.Service.opts.MapWait = 10 * time.Second
	tick := nowTick()
	got := make(chan cairn.Verdict)
	go func() {
		v, _ := w.Claim(context.Background(), w.attempt(tick, 0, "ana"))
		got <- v
	}()
	w.emit(tick, cairn.Tap)
	if v := <-got; v.Outcome != cairn.Won {
		t.Errorf("got %v, want won", v.Outcome)
	}
}

// TestHalted pauses, resumes and ends the hunt under claims.
func TestHalted(t *testing.T) {
	w := newWorld(t)
	w.start()
	m := w.emit(nowTick(), cairn.Tap)
	if v := w.claim(w.attempt(m.Tick, 0, "ana")); v.Outcome != cairn.Won {
		t.Fatalf("live: got %v, want won", v.Outcome)
	}
	tile := uint32(0)
	for _, c := range []struct {
		state cairn.State
		want  cairn.Outcome
	}{{cairn.Paused, cairn.Closed}, {cairn.Live, cairn.Won}, {cairn.Ended, cairn.Closed}} {
		w.change(cairn.Change{Hunt: "oslo", State: c.state})
		w.until(string(c.state), func() bool {
			h := w.atlas.Load().hunts
			return h.Get("oslo").State == c.state
		})
		tile++
		if v := w.claim(w.attempt(m.Tick, tile, "ana")); v.Outcome != c.want {
			t.Errorf("%s: a free tile: got %v, want %v", c.state, v.Outcome, c.want)
		}
		if v := w.claim(w.attempt(m.Tick, 0, "ana")); v.Outcome != cairn.Won {
			t.Errorf("%s: the holder's retry: got %v, want won", c.state, v.Outcome)
		}
		if v := w.claim(w.attempt(m.Tick, 0, "bo")); v.Outcome != cairn.Gone {
			t.Errorf("%s: another: got %v, want gone", c.state, v.Outcome)
		}
	}
}

func TestClaimAll(t *testing.T) {
	w := newWorld(t)
	w.start()
	m := w.emit(nowTick(), cairn.Tap)
	as := make([]cairn.Attempt, 256)
	for i := range as {
		as[i] = *w.attempt(m.Tick, uint32(i/2), fmt.Sprint("p", i%2))
	}
	out := make([]Answer, len(as))
	w.ClaimAll(t.Context(), as, out)
	for i, a := range out {
		want := cairn.UnknownTile
		if i/2 < len(m.Tiles) {
			want = []cairn.Outcome{cairn.Won, cairn.Gone}[i%2]
		}
		if a.Err != nil || a.Verdict.Outcome != want {
			t.Errorf("attempt %d: got %v, %v; want %v", i, a.Verdict.Outcome, a.Err, want)
		}
	}
}

// TestDrain ends the service under load: every attempt is answered, and what
// was answered won is in the log.
func TestDrain(t *testing.T) {
	w := newWorld(t)
	w.start()
	m := w.emit(nowTick(), cairn.Tap)
	var mu sync.Mutex
	won := map[uint32]cairn.Verdict{}
	var wg sync.WaitGroup
	for tile := range uint32(len(m.Tiles)) {
		wg.Go(func() {
			v, err := w.Claim(context.Background(), w.attempt(m.Tick, tile, "ana"))
			if err == nil && v.Outcome == cairn.Won {
				mu.Lock()
				won[tile] = v
				mu.Unlock()
			} else if !errors.Is(err, ErrUnavailable) {
				t.Errorf("tile %d: got %v, %v; want won or unavailable", tile, v.Outcome, err)
			}
		})
	}
	w.halt()
	wg.Wait()
	w.start()
	for tile, v := range won {
		if got := w.claim(w.attempt(m.Tick, tile, "ana")); got.Place != v.Place {
			t.Errorf("tile %d: got %v, want %v", tile, got.Place, v.Place)
		}
	}
}
