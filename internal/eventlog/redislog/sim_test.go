package redislog

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/veltrix/cairn/internal/eventlog/redislog/redissim"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run the simulation of this seed only, and print its trace")
	simSeeds = flag.Uint64("sim.seeds", 1000, "how many seeds the simulation runs")
	simFirst = flag.Uint64("sim.first", 1, "the first of them")
	simSteps = flag.Int("sim.steps", 800, "how much happens in a run before all is mended")
	simBreak = flag.String("sim.break", "", "the mutant to run, by its name in mutation_test.go")
)

// simulate runs one seed and returns what it violated, or "".
func simulate(seed uint64, trace bool, m mutant) (*sim, string) {
	w := newSim(seed, trace)
	w.broken, w.without = m.broken, m.without
	w.provision()
	for _, n := range w.primary.Replicas() {
		n.Replicate(1)
	}
	return w, w.run(*simSteps)
}

// provision creates the log.
func (w *sim) provision() {
	e := newGenesis(false)
	c := w.primary.Dial()
	r := c.Do("XADD", simKey, e.Offset.String(), fieldHeader, string(e.appendHeader(nil)), fieldBody, string(e.Body))
	if r.Kind != redissim.Bulk {
		panic(r.Text)
	}
}

// TestSimulation runs many seeds, none of which may violate anything. One that
// does is replayed by -sim.seed, which prints all that happened.
func TestSimulation(t *testing.T) {
	m := mutant{name: "none"}
	if *simBreak != "" {
		i := slices.IndexFunc(mutants, func(m mutant) bool { return m.name == *simBreak })
		if i < 0 {
			t.Fatalf("-sim.break: no mutant is called %q", *simBreak)
		}
		m = mutants[i]
	}
	if *simSeed != 0 {
		w, failed := simulate(*simSeed, true, m)
		t.Logf("seed %d:\n%s", *simSeed, strings.Join(w.lines, "\n"))
		if failed != "" {
			t.Errorf("seed %d: %s", *simSeed, failed)
		}
		return
	}
	seeds := *simSeeds
	if testing.Short() {
		seeds = min(seeds, 100)
	}
	acked, rolled, lost, bad := 0, 0, 0, 0
	for seed := *simFirst; seed < *simFirst+seeds && bad < 10; seed++ {
		w, failed := simulate(seed, false, m)
		acked += len(w.acked)
		if w.rolled {
			rolled++
		}
		if w.lost {
			lost++
		}
		if failed != "" {
			t.Errorf("seed %d: %s\nto replay it: go test ./internal/eventlog/redislog -run TestSimulation -v -sim.seed %[1]d", seed, failed)
			bad++
		}
	}
	t.Logf("%d seeds: %d appends acknowledged; in %d the log may have been rolled back, in %d it was lost", seeds, acked, rolled, lost)
	if seeds >= 1000 && (acked < 1000 || rolled < 100 || lost < 10) {
		t.Error("the simulation tries too little")
	}
}

// TestSimulationReplays: the same seed gives the same run.
func TestSimulationReplays(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		a, failedA := simulate(seed, true, mutant{})
		b, failedB := simulate(seed, true, mutant{})
		if len(a.lines) != len(b.lines) || a.now != b.now || a.serial != b.serial || a.final != b.final || failedA != failedB || a.rng.Uint64() != b.rng.Uint64() {
			t.Errorf("seed %d: %d events up to %v, and then %d up to %v", seed, len(a.lines), a.now, len(b.lines), b.now)
		}
	}
}
