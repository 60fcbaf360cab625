package mapgen

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

func ticksOf(ms []*cairn.Map) (ts []cairn.Tick) {
	for _, m := range ms {
		ts = append(ts, m.Tick)
	}
	return ts
}

// consecutive fails unless the maps are those of first, first+1, …, last.
func consecutive(t *testing.T, ms []*cairn.Map, first, last cairn.Tick) {
	t.Helper()
	want := []cairn.Tick{}
	for k := first; k <= last; k++ {
		want = append(want, k)
	}
	got := ticksOf(ms)
	if len(got) != len(want) || len(got) > 0 && (got[0] != first || got[len(got)-1] != last) {
		t.Fatalf("ticks are %v, want %v", got, want)
	}
}

func TestOneMapATick(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Reward: cairn.Reward{Min: 1, Max: 5, Budget: 1000}})
	l := r.start()
	defer l.end()
	seen := 0
	for range 200 { // 50 ms each
		l.step()
		for _, m := range r.maps(h)[seen:] {
			if lead := m.Opens.Sub(r.instant()); lead < 250*time.Millisecond || lead > 400*time.Millisecond {
				t.Errorf("tick %d was emitted %v before it opens, want 250ms to 400ms", m.Tick, lead)
			}
			seen++
		}
		r.advance(50 * time.Millisecond)
	}
	first := cairn.Tick(1_800_000_001)
	consecutive(t, r.maps(h), first, first+9)
	if got := r.counter("cairn_maps_emitted_total"); got != 10 {
		t.Errorf("cairn_maps_emitted_total is %v, want 10", got)
	}
	if got := r.counter("cairn_ticks_skipped_total"); got != 0 {
		t.Errorf("cairn_ticks_skipped_total is %v, want 0", got)
	}
}

func TestStall(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Lifetime: cairn.Duration(5 * time.Second)})
	l := r.start()
	defer l.end()
	l.run(3 * time.Second)
	first := cairn.Tick(1_800_000_001)
	consecutive(t, r.maps(h), first, first+2)

	r.advance(2 * time.Second) // short: none has closed
	l.step()
	consecutive(t, r.maps(h), first, first+4)

	r.advance(20 * time.Second)
	l.step()
	ms := r.maps(h)[5:]
	consecutive(t, ms, first+20, first+24) // open at 1_800_000_025, tick +19 has just closed
	if now := r.instant(); ms[0].Closes <= now || ms[len(ms)-1].Opens != now {
		t.Errorf("at %v maps of %v to %v were emitted", now, ms[0].Closes, ms[len(ms)-1].Opens)
	}
	if got := r.counter("cairn_ticks_skipped_total"); got != 15 {
		t.Errorf("cairn_ticks_skipped_total is %v, want 15", got)
	}
	l.run(2 * time.Second)
	consecutive(t, r.maps(h)[5:], first+20, first+26)
}

// TestRestartMidMap takes over from a writer that died between two chunks.
func TestRestartMidMap(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{TilesPerMap: 2*wire.TilesPerChunk + 1})
	dead := r.start()
	dead.run(2 * time.Second)
	n := len(r.maps(h))
	r.advance(700 * time.Millisecond)
	m := dead.courses["test"].field.Make(testKey, &h, dead.courses["test"].tick+1, 0, dead.courses["test"].digest)
	for _, first := range []int{0, wire.TilesPerChunk} {
		_, err := dead.append(r.ctx, wire.AppendMapChunk(nil, m, first))
		r.must(err)
	}
	dead.end()

	l := r.start()
	defer l.end()
	l.step()
	ms := r.maps(h)
	if len(ms) != n+1 || ms[n].Tick != m.Tick {
		t.Fatalf("ticks are %v, want %d and then %d", ticksOf(ms), n, m.Tick)
	}
	if ms[n].Digest != m.Digest {
		t.Errorf("the map that was begun has digest %v, want %v", ms[n].Digest, m.Digest)
	}
}

// TestRecordsFit holds the largest map's records to what a log takes.
func TestRecordsFit(t *testing.T) {
	h := testHunt(t, geohashRegion(t, ""), cairn.TilesPerMapMax)
	h.Reward = cairn.Reward{Min: cairn.RewardMax, Max: cairn.RewardMax}
	for len(h.Name) < cairn.HuntNameBytesMax {
		h.Name += "x"
	}
	m := mustField(t, h).Make(testKey, &h, 1<<40, cairn.BudgetMax, cairn.Digest{})
	for first := 0; first < len(m.Tiles); first += wire.TilesPerChunk {
		if n := len(wire.AppendMapChunk(nil, m, first)); n > eventlog.BodyBytesMax {
			t.Errorf("chunk from %d has %d bytes, want at most %d", first, n, eventlog.BodyBytesMax)
		}
	}
}

// TestTakeover fences a generator out: it can emit nothing any more, and its
// successor goes on.
func TestTakeover(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Reward: cairn.Reward{Min: 1, Max: 9, Budget: 100_000}})
	old := r.start()
	defer old.end()
	old.run(5 * time.Second)
	l := r.start()
	defer l.end()
	r.advance(time.Second)
	if _, err := old.life.step(r.ctx); !errors.Is(err, eventlog.ErrFenced) {
		t.Fatalf("the old generator's step: got %v, want ErrFenced", err)
	}
	l.run(3 * time.Second)
	first := cairn.Tick(1_800_000_001)
	consecutive(t, r.maps(h), first, first+8)
}

// TestRace lets two generators take the log from each other all the time.
func TestRace(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Reward: cairn.Reward{Min: 1, Max: 9, Budget: 100_000}})
	// They go on for a minute of the clock, and until they have fenced each
	// other out a few times.
	const until = 60
	var fenced, steps atomic.Int64
	deadline := time.Now().Add(20 * time.Second)
	on := func() bool {
		return (r.now().Unix() < 1_800_000_000+until || fenced.Load() < 6) && time.Now().Before(deadline)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for on() {
				l, err := r.gen.open(r.ctx)
				if err != nil {
					t.Error(err)
					return
				}
				for on() {
					if _, err = l.step(r.ctx); err != nil {
						break
					}
					// Only who could emit moves the clock: else it runs away
					// from two that fence each other out.
					r.advance(100 * time.Millisecond)
					steps.Add(1)
				}
				if errors.Is(err, eventlog.ErrFenced) {
					fenced.Add(1)
					// In step they could do nothing else for ever.
					for done := steps.Load(); on() && steps.Load() == done; {
						runtime.Gosched()
					}
				} else if err != nil {
					t.Error(err)
				}
				l.close()
			}
		})
	}
	wg.Wait()
	if n := fenced.Load(); n < 6 {
		t.Errorf("they were fenced out %d times in 20s, want 6", n)
	}
	first := cairn.Tick(1_800_000_001)
	ms := r.maps(h)
	consecutive(t, ms, first, ms[len(ms)-1].Tick)
	if last := ms[len(ms)-1].Tick; last < first+until-3 {
		t.Errorf("last tick is %d, want about %d", last, first+until)
	}
}

func TestPauseResumeEnd(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{})
	l := r.start()
	defer l.end()
	first := cairn.Tick(1_800_000_001)
	l.run(3 * time.Second)
	r.set(cairn.Paused)
	l.run(10 * time.Second)
	consecutive(t, r.maps(h), first, first+2)
	r.set(cairn.Live)
	l.run(2 * time.Second)
	consecutive(t, r.maps(h)[3:], first+13, first+14)
	if got := r.counter("cairn_ticks_skipped_total"); got != 0 {
		t.Errorf("cairn_ticks_skipped_total is %v, want 0: no map is missed in a pause", got)
	}

	// A takeover in a pause goes on behind it, too.
	r.set(cairn.Paused)
	l.end()
	r.advance(10 * time.Second)
	l = r.start()
	defer l.end()
	l.run(3 * time.Second)
	r.set(cairn.Live)
	l.run(1 * time.Second)
	consecutive(t, r.maps(h)[5:], first+28, first+28)

	r.set(cairn.Ended)
	l.run(5 * time.Second)
	if got := len(r.maps(h)); got != 6 {
		t.Errorf("%d maps after the end, want 6", got)
	}
	l.end()
	l = r.start()
	defer l.end()
	l.run(2 * time.Second)
	if got := len(r.maps(h)); got != 6 {
		t.Errorf("%d maps after the end and a takeover, want 6", got)
	}
}

// TestEndBetweenDueAndEmit ends a hunt when its next map was found due and is
// not made yet: the map may come or not, but never of a purse that is full
// again, and never without the map before it.
func TestEndBetweenDueAndEmit(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Reward: cairn.Reward{Min: 1, Max: 9, Budget: 1000}})
	l := r.start()
	defer l.end()
	l.run(3 * time.Second)
	r.advance(time.Second)
	d, ok := l.nextDue(r.instant())
	if !ok || d.due > r.instant() {
		t.Fatalf("got %+v and %v, want a map that is due", d, ok)
	}
	r.set(cairn.Ended)
	l.catchUp()
	r.must(l.emit(r.ctx, d))
	for _, m := range r.maps(h)[1:] {
		if m.Prev == (cairn.Digest{}) || m.Budget == h.Reward.Budget {
			t.Errorf("tick %d has a budget of %d and names %v as the map before it", m.Tick, m.Budget, m.Prev)
		}
	}
}

func TestShardsChangeWithTheNextMap(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Shards: 2})
	l := r.start()
	defer l.end()
	l.run(2 * time.Second)
	r.do(cairn.Change{Hunt: "test", Shards: 3})
	l.run(2 * time.Second)
	for i, want := range []int{2, 2, 3, 3} {
		if ms := r.maps(h); ms[i].Shards != want {
			t.Errorf("map %d has %d shards, want %d", i, ms[i].Shards, want)
		}
	}
}

// TestTilesChangeWithTheNextMap wants as many tiles as the hunt has now, drawn
// from the cells that a hunt of that many has, also after a restart.
func TestTilesChangeWithTheNextMap(t *testing.T) {
	r := rigOf(t)
	geohash := cairn.CellOfBits(0, 2)
	h := r.hunt(cairn.Hunt{TilesPerMap: 20, Lifetime: cairn.Duration(2 * time.Second), Region: cairn.Region{Geohash: &geohash}})
	l := r.start()
	l.run(2 * time.Second)
	r.do(cairn.Change{Hunt: "test", TilesPerMap: 3000})
	l.run(2 * time.Second)
	l.end()
	l = r.start()
	defer l.end()
	l.run(time.Second)
	r.do(cairn.Change{Hunt: "test", TilesPerMap: 1})
	l.run(2 * time.Second)
	ms := r.maps(h)
	for i, want := range []int{20, 20, 3000, 3000, 3000, 1, 1} {
		next := h
		next.TilesPerMap = want
		f, err := NewField(next)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(ms[i].Tiles); got != want || ms[i].MapHeader.Tiles != want {
			t.Fatalf("map %d has %d tiles, want %d", i, got, want)
		}
		for _, tile := range ms[i].Tiles {
			if !f.Has(tile.Cell) {
				t.Fatalf("map %d has %v, which is no cell of precision %d", i, tile.Cell, f.Precision())
			}
		}
	}
}

func TestTwoHunts(t *testing.T) {
	r := rigOf(t)
	slow := r.hunt(cairn.Hunt{Name: "slow", Tick: cairn.Duration(3 * time.Second)})
	fast := r.hunt(cairn.Hunt{Name: "fast", Tick: cairn.Duration(100 * time.Millisecond)})
	l := r.start()
	defer l.end()
	l.run(6 * time.Second)
	if got := len(r.maps(slow)); got != 2 {
		t.Errorf("slow has %d maps, want 2", got)
	}
	if got := len(r.maps(fast)); got != 61 {
		t.Errorf("fast has %d maps, want 61", got)
	}
}

// TestTakeoverReadsTheTail shows that what a takeover reads does not grow with
// the age of a hunt.
func TestTakeoverReadsTheTail(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Lifetime: cairn.Duration(3 * time.Second), Reward: cairn.Reward{Min: 1, Max: 9, Budget: 1_000_000}})
	l := r.start()
	l.run(100 * time.Second)
	left := l.left()
	l.end()
	l = r.start()
	defer l.end()
	from, fence := l.w.From(), l.w.Fence()
	if from.Epoch != fence.Epoch-1 || from.Seq < 200 {
		t.Errorf("the takeover at %v read from %v, want the last few seconds", fence, from)
	}
	if got := l.left(); got > left {
		t.Errorf("left is %d after the takeover, want at most %d", got, left)
	}
	r.must(r.store.Trim(r.ctx, eventlog.Maps, from))
	l.end()
	l = r.start()
	defer l.end()
	l.run(20 * time.Second)
	if ms := len(l.courses["test"].purse.open); ms > 15 {
		t.Errorf("%d maps are not settled, want those of the last 13 s", ms)
	}
	if got, want := l.left()+l.courses["test"].purse.offered(), h.Reward.Budget; got != want {
		t.Errorf("left and offered are %d, want the budget, %d: nobody claimed", got, want)
	}
}

// TestRun runs the real loop on the real clock.
func TestRun(t *testing.T) {
	r := rigOf(t)
	r.gen = New(r.store, testKey, Options{})
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.gen.Run(ctx) }()
	r.micros.Store(time.Now().UnixMicro())
	h := r.hunt(cairn.Hunt{Tick: cairn.Duration(100 * time.Millisecond)})
	deadline := time.Now().Add(20 * time.Second)
	for len(r.maps(h)) < 5 {
		if time.Now().After(deadline) {
			t.Fatalf("%d maps after 20s, want 5", len(r.maps(h)))
		}
		time.Sleep(10 * time.Millisecond)
	}
	ms := r.maps(h)
	consecutive(t, ms, ms[0].Tick, ms[len(ms)-1].Tick)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: got %v, want context.Canceled", err)
	}
}

func TestRunEndsWhenFenced(t *testing.T) {
	r := rigOf(t)
	r.micros.Store(time.Now().UnixMicro())
	h := r.hunt(cairn.Hunt{Tick: cairn.Duration(100 * time.Millisecond)})
	r.gen = New(r.store, testKey, Options{})
	done := make(chan error, 1)
	go func() { done <- r.gen.Run(r.ctx) }()
	deadline := time.Now().Add(20 * time.Second)
	for len(r.maps(h)) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("no map after 20s")
		}
		time.Sleep(10 * time.Millisecond)
	}
	w, err := r.store.Open(r.ctx, eventlog.Maps)
	r.must(err)
	defer w.Close()
	if err := <-done; !errors.Is(err, eventlog.ErrFenced) {
		t.Errorf("Run: got %v, want ErrFenced", err)
	}
}

func TestRunWithoutLogs(t *testing.T) {
	r := rigOf(t)
	r.gen = New(r.store, testKey, Options{Shards: rigShards + 1})
	if err := r.gen.Run(r.ctx); !errors.Is(err, eventlog.ErrMissing) {
		t.Errorf("Run with a shard that has no log: got %v, want ErrMissing", err)
	}
}
