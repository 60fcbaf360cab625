//go:build unix

package standings

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// TestRun measures ours on an embedded log, a little: with each load every
// claim is won, published and told to each client, and nothing is left running.
func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	o := Options{
		Systems: []string{OursFilelog}, Rounds: 1, Hunts: 2, Players: 20, Tiles: 100, Clients: 2, Shards: 3,
		Rate: 1000, Warm: 50 * time.Millisecond, Paced: 200 * time.Millisecond, Saturated: time.Minute, Callers: 4, Batch: 8, WinsMax: 400, Dir: t.TempDir(),
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, load := range []string{Paced, Saturated} {
		want := int64(200)
		if load == Saturated {
			want = 400
		}
		for _, board := range []bool{false, true} {
			ms := r.of(OursFilelog, load, board)
			if len(ms) != 1 || int64(ms[0].Claims) != want || ms[0].Latency.N != want {
				t.Errorf("%s, boards %v: got %v, want one run of %d claims, without those of the warm-up", load, board, ms, want)
				continue
			}
			if !board {
				continue
			}
			// Each claim is published once, and told to the two clients of its hunt.
			if p, c := ms[0].Published, ms[0].Client; p.FromReceipt.N != want || c.FromReceipt.N != 2*want || c.FromAnswer.P50 > c.FromReceipt.P50 {
				t.Errorf("%s: got published %+v and at clients %+v, want %d and %d", load, p, c, want, 2*want)
			}
		}
	}
	o.Systems = []string{"nobody's"}
	if _, err := Run(t.Context(), o); err == nil || !slices.ContainsFunc(Systems(), func(s string) bool { return contains(err.Error(), s) }) {
		t.Errorf("an unknown system: got %v, want an error that names those there are", err)
	}
}
