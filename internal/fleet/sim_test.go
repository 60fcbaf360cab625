package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veltrix/cairn"
)

// simulate runs f in a world with claims processes of the given names, a
// generator, a gateway and players, once all is served, and checks what was
// answered against the logs.
func simulate(t *testing.T, seed uint64, names []string, f func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { w.generate(ctx) })
		for _, name := range names {
			w.start(name)
		}
		knows, stop := w.gateway("g1", true)
		asks, stop2 := w.gateway("g2", false)
		defer func() {
			cancel()
			wg.Wait()
			w.end(stop, stop2)
		}()
		w.until(5*time.Second, "all is served", w.served)
		w.until(5*time.Second, "the gateways know", func() error { return errors.Join(knows.Ready(), asks.Ready()) })
		wg.Go(func() { w.play(ctx, knows, 12, seed, 20*time.Millisecond) })
		wg.Go(func() { w.play(ctx, asks, 8, seed+1000, 20*time.Millisecond) })
		time.Sleep(2 * time.Second)
		f(w)
		time.Sleep(time.Second)
		cancel()
		wg.Wait()
		w.check()
		w.again(knows)
		t.Logf("%v, slowest %v", w.seen.counts, w.seen.slowest)
		if w.seen.counts["won"] == 0 || w.seen.counts["gone"] == 0 {
			t.Errorf("answers: got %v: the simulation tries nothing", w.seen.counts)
		}
	})
}

// again has every holder of a tile ask for it once more.
func (w *world) again(c *Claims) {
	w.t.Helper()
	w.seen.mu.Lock()
	won := make([]told, 0, len(w.seen.won))
	for _, t := range w.seen.won {
		won = append(won, t)
	}
	w.seen.mu.Unlock()
	for _, t := range won {
		v, err := c.Claim(context.Background(), &cairn.Attempt{TileRef: t.ref, Player: t.player, ClaimID: "again"})
		if err != nil || v.Outcome != cairn.Won || v.Place != t.place {
			w.t.Errorf("%v: its holder %s asks again: got %v at %v (%v), want won at %v", t.ref, t.player, v.Outcome, v.Place, err, t.place)
		}
	}
}

// undecided returns how many attempts were not decided until now.
func (w *world) undecided() int {
	w.seen.mu.Lock()
	defer w.seen.mu.Unlock()
	return w.seen.counts["pending"] + w.seen.counts["unavailable"]
}

// slowest returns how long the attempt took that took longest until now.
func (w *world) slowest() time.Duration {
	w.seen.mu.Lock()
	defer w.seen.mu.Unlock()
	return w.seen.slowest
}

// TestPlanned rolls every claims process under play: nobody notices but by a
// few milliseconds.
func TestPlanned(t *testing.T) {
	simulate(t, 1, []string{"a", "b", "c"}, func(w *world) {
		for _, name := range []string{"a", "b", "c"} {
			w.drain(w.procs[name])
			time.Sleep(time.Second)
			w.start(name)
			w.until(5*time.Second, "all is served", w.served)
		}
		if n := w.undecided(); n > 0 {
			w.t.Errorf("%d attempts were not decided, want 0", n)
		}
		if took := w.slowest(); took > 100*time.Millisecond {
			w.t.Errorf("the slowest attempt took %v, want at most 100ms", took)
		}
	})
}

// TestKilled kills a process, whose address refuses at once.
func TestKilled(t *testing.T) {
	simulate(t, 2, []string{"a", "b", "c"}, func(w *world) {
		for _, name := range []string{"a", "b", "c"} {
			w.kill(w.procs[name])
			took := w.until(time.Second, "others have taken over from "+name, w.served)
			w.t.Logf("killed %s: served again after %v", name, took)
			w.start(name)
			w.until(5*time.Second, "all is served", w.served)
		}
		if n := w.undecided(); n > 0 {
			w.t.Errorf("%d attempts were not decided, want 0: they had the time", n)
		}
	})
}

// TestPaused pauses a process for 10s. The others have its shards within 1s,
// and when it wakes it does no harm and gets them back.
func TestPaused(t *testing.T) {
	simulate(t, 3, []string{"a", "b"}, func(w *world) {
		p := w.procs["a"]
		p.host.pause()
		delete(w.procs, "a")
		took := w.until(time.Second, "the other has taken over", w.served)
		w.t.Logf("paused: served again after %v", took)
		time.Sleep(10*time.Second - took)
		w.procs["a"] = p
		p.host.resume()
		w.until(3*time.Second, "all is served", w.served)
		if n := w.undecided(); n > 0 {
			w.t.Errorf("%d attempts were not decided, want 0: they had the time", n)
		}
	})
}

// TestRegistryAway takes the registry away for longer than any lease: nobody
// moves, and nobody notices.
func TestRegistryAway(t *testing.T) {
	simulate(t, 4, []string{"a", "b", "c"}, func(w *world) {
		before := w.epochs()
		w.reg.set(true, 0)
		time.Sleep(5 * time.Second)
		w.reg.set(false, 0)
		time.Sleep(3 * time.Second)
		if after := w.epochs(); !slices.Equal(before, after) {
			w.t.Errorf("epochs of the shards: got %v, want %v: nothing moves", after, before)
		}
		if n := w.undecided(); n > 0 {
			w.t.Errorf("%d attempts were not decided, want 0", n)
		}
	})
}

// TestRegistryForgets has the registry lose its memory, over and over: nobody
// moves.
func TestRegistryForgets(t *testing.T) {
	simulate(t, 6, []string{"a", "b", "c"}, func(w *world) {
		before := w.epochs()
		for range 20 {
			w.reg.forget()
			time.Sleep(1337 * time.Millisecond)
		}
		if after := w.epochs(); !slices.Equal(before, after) {
			w.t.Errorf("epochs of the shards: got %v, want %v: nothing moves", after, before)
		}
		if n := w.undecided(); n > 0 {
			w.t.Errorf("%d attempts were not decided, want 0", n)
		}
	})
}

// TestJoin moves only what falls to who joins.
func TestJoin(t *testing.T) {
	simulate(t, 5, []string{"a", "b"}, func(w *world) {
		before := w.epochs()
		w.start("c")
		w.until(5*time.Second, "all is served", w.served)
		c := w.procs["c"]
		for shard, epoch := range w.epochs() {
			want := before[shard]
			if slices.Contains(c.owner.serving(), shard) {
				want++
			}
			if epoch != want {
				w.t.Errorf("shard %d: got epoch %d, want %d", shard, epoch, want)
			}
		}
		if n := w.undecided(); n > 0 {
			w.t.Errorf("%d attempts were not decided, want 0", n)
		}
	})
}

// epochs returns the epoch of each shard's log: how often it was taken over.
func (w *world) epochs() (epochs []uint64) {
	for shard := range simShards {
		epochs = append(epochs, w.epoch(shard))
	}
	return epochs
}
