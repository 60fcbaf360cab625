package fleet

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run the simulation of this seed only")
	simSeeds = flag.Uint64("sim.seeds", 12, "how many seeds the simulation runs")
)

// TestChaos does all of that, at random, and several things at once.
func TestChaos(t *testing.T) {
	seeds := []uint64{*simSeed}
	if *simSeed == 0 {
		seeds = nil
		n := *simSeeds
		if testing.Short() {
			n = 1
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
