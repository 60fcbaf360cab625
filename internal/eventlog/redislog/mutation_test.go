package redislog

import (
	"flag"
	"testing"
)

// What processes, rather than stores, have to keep.
const (
	withoutNoRetry = "a lost connection's commands are sent again"
	withoutFrom    = "a takeover reads from the last fence only"
	withoutDurable = "the ledger pays what is not durable"
	withoutOffset  = "the ledger's offset is not checked"
	withoutUnique  = "the ledger is not unique on the tile"
	withoutTrim    = "trimmed before it is paid"
	withoutFirst   = "the last grant wins"
)

// A mutant is the protocol with one rule broken.
type mutant struct {
	name    string
	broken  rule
	without string
	seed    uint64 // one that catches it; others are tried if it no longer does
}

var mutants = []mutant{
	{"R1-create", ruleNoCreate, "", 56},
	{"R1-genesis", ruleGenesis, "", 188},
	{"R2-nonce", ruleNonce, "", 39},
	{"R3-prev", ruleChained, "", 12},
	{"R3-hash", ruleHashed, "", 30},
	{"R3-mark", ruleMark, "", 63},
	{"R3-idle-mark", ruleIdleMark, "", 2},
	{"R3-close-mark", ruleCloseMark, "", 3},
	{"R3-from", 0, withoutFrom, 4},
	{"R3-durable", 0, withoutDurable, 6},
	{"R4-watch", ruleWatch, "", 177},
	{"R4-look", ruleLook, "", 1784},
	{"R4-retry", 0, withoutNoRetry, 36},
	{"R5-repair", ruleRepair, "", 7},
	{"R5-prefix", rulePrefix, "", 10},
	{"R6-same", ruleSame, "", 8},
	{"R6-open", ruleOpen, "", 207},
	{"R6-own", ruleOwn, "", 36},
	{"R6-final", ruleFinal, "", 1},
	{"R7-first", 0, withoutFirst, 3},
	{"wait-all", ruleWaitAll, "", 6},
	{"wait-short", ruleWaitShort, "", 6},
	{"wait-fence", ruleWaitFence, "", 6},
	{"wait-found", ruleWaitFound, "", 63},
	{"ends", ruleEnds, "", 10},
	{"seal-back", ruleSealBack, "", 1066},
	{"give-up", ruleGiveUp, "", 654},
	{"ledger-offset", 0, withoutOffset, 2},
	{"ledger-unique", 0, withoutUnique, 3},
	{"trim", 0, withoutTrim, 236},
}

var simMutant = flag.Uint64("sim.mutant", 3000, "how many seeds a mutant may live; it is tried on all of them")

// TestMutants: whichever rule is broken, some seed violates a promise.
func TestMutants(t *testing.T) {
	anew := false
	flag.Visit(func(f *flag.Flag) { anew = anew || f.Name == "sim.mutant" })
	for i, m := range mutants {
		if testing.Short() && i%5 > 0 {
			continue // the same code under all of them
		}
		t.Run(m.name, func(t *testing.T) {
			if _, failed := simulate(m.seed, false, m); failed != "" && !anew {
				return
			}
			for seed := uint64(1); seed <= *simMutant; seed++ {
				if _, failed := simulate(seed, false, m); failed != "" {
					t.Logf("seed %d: %.150s", seed, failed)
					if !anew {
						t.Logf("mutants has seed %d, which catches it no more", m.seed)
					}
					return
				}
			}
			t.Errorf("lives through %d seeds", *simMutant)
		})
	}
}
