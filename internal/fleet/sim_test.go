package fleet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veltrix/cairn"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run the simulation of this seed only")
	simSeeds = flag.Uint64("sim.seeds", 12, "how many seeds the simulation runs")
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
		if w.seen.slowest > 100*time.Millisecond {
			w.t.Errorf("the slowest attempt took %v, want at most 100ms", w.seen.slowest)
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

// TestChaos does all of that, at random, and several things at once.
func TestChaos(t *testing.T) {
	seeds := []uint64{*simSeed}
	if *simSeed == 0 {
		seeds = nil
		n := *simSeeds
		if testing.Short() {
			n = 3
		}
		for s := range n {
			seeds = append(seeds, s+1)
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			simulate(t, seed, []string{"a", "b", "c"}, func(w *world) {
				c := &chaos{world: w, rng: rand.New(rand.NewPCG(seed, 0)), names: []string{"a", "b", "c", "d"}}
				c.run(40 * time.Second)
				took := w.until(3*time.Second, "all is served when the faults are over", w.served)
				time.Sleep(2 * time.Second) // what was in flight meanwhile has its answer
				n := w.undecided()
				time.Sleep(time.Second)
				if more := w.undecided() - n; more > 0 {
					t.Errorf("%d attempts were not decided when the faults were over, want 0", more)
				}
				t.Logf("%d faults; all served %v after the last", c.faults, took)
			})
		})
	}
}

// A chaos does things to a world. It is driven by one goroutine.
type chaos struct {
	*world
	rng    *rand.Rand
	names  []string
	faults int
	heals  []heal
}

// A heal ends a fault.
type heal struct {
	at time.Time
	do func()
}

func (c *chaos) run(d time.Duration) {
	over := time.Now().Add(d)
	for time.Now().Before(over) {
		c.step()
		time.Sleep(c.between(50*time.Millisecond, 1500*time.Millisecond))
		c.heal(time.Now())
	}
	c.heal(over.Add(time.Hour))
	for _, name := range c.names {
		if c.procs[name] == nil {
			c.start(name)
		}
	}
}

func (c *chaos) between(from, to time.Duration) time.Duration {
	return from + time.Duration(c.rng.Int64N(int64(to-from)))
}

// heal ends the faults whose time is over.
func (c *chaos) heal(now time.Time) {
	c.heals = slices.DeleteFunc(c.heals, func(h heal) bool {
		if now.Before(h.at) {
			return false
		}
		h.do()
		return true
	})
}

func (c *chaos) later(d time.Duration, do func()) {
	c.heals = append(c.heals, heal{time.Now().Add(d), do})
}

// step does one thing.
func (c *chaos) step() {
	name := c.names[c.rng.IntN(len(c.names))]
	p := c.procs[name]
	if p == nil {
		c.start(name)
		return
	}
	c.faults++
	switch c.rng.IntN(9) {
	case 0:
		if len(c.procs) > 1 {
			c.kill(p)
		}
	case 1:
		if len(c.procs) > 1 {
			delete(c.procs, name)
			done := make(chan struct{})
			go func() {
				defer close(done)
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				defer cancel()
				p.owner.Drain(ctx)
				p.stop()
			}()
			c.later(0, func() { <-done })
		}
	case 2, 3:
		p.host.pause()
		c.later(c.between(100*time.Millisecond, 10*time.Second), p.host.resume)
	case 4:
		p.host.setCut(true)
		c.later(c.between(100*time.Millisecond, 5*time.Second), func() { p.host.setCut(false) })
	case 5:
		c.reg.set(true, 0)
		c.later(c.between(100*time.Millisecond, 3*time.Second), func() { c.reg.set(false, 0) })
	case 6:
		c.reg.set(false, c.between(20*time.Millisecond, 500*time.Millisecond))
		c.later(c.between(time.Second, 3*time.Second), func() { c.reg.set(false, 0) })
	case 7:
		p.host.breakAll()
	case 8:
		c.reg.forget()
	}
}

// epochs returns the epoch of each shard's log: how often it was taken over.
func (w *world) epochs() (epochs []uint64) {
	for shard := range simShards {
		epochs = append(epochs, w.epoch(shard))
	}
	return epochs
}
