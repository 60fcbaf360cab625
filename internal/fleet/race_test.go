//go:build race

package fleet

import "runtime"

// One processor: with Go 1.26 the race detector's runtime crashes now and then
// where two threads run timers of one bubble of testing/synctest (SIGSEGV in its
// C code, below time.goFunc). Races are found all the same, for they are of what
// is ordered, not of what coincides.
func init() { runtime.GOMAXPROCS(1) }
