//go:build unix

package main

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/veltrix/cairn/bench/chaos/history"
	"github.com/veltrix/cairn/bench/program"
)

// TestFaults breaks a fleet three times under a small load. It asserts what
// must hold whatever the time it takes.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a whole fleet: some 40 s")
	}
	o, err := parse([]string{
		"-seed", "7", "-rounds", "1", "-faults", "kill-claims,kill-gateway,kill-primary", "-rate", "400", "-least", "0",
		"-lifetime", "15s", "-warm-up", "2s", "-quiet", "1s", "-live", "1", "-shards", "8", "-players", "16",
	})
	if err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	res, err := execute(t.Context(), o, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	res.print(&progress)
	t.Log(progress.String())
	h, l := res.History, res.Ledger
	if h.Broken() {
		t.Errorf("what players were told could not be: %+v", h)
	}
	if h.Won == 0 || h.Same == 0 || h.Contested == 0 {
		t.Errorf("nothing was put to the test: %+v", h)
	}
	if l.Lost > 0 || l.Moved > 0 || l.Told != h.Won {
		t.Errorf("the ledger against what players were told: %+v, of %d won", l, h.Won)
	}
	for _, v := range res.Verified {
		if !v.Report.OK {
			t.Errorf("verify %s: %s", v.When, v)
		}
	}
	if last := res.Verified[len(res.Verified)-1].Report; last.Rewards != last.Ledger.Rewards || last.Rewards == 0 {
		t.Errorf("Σ log is %d, Σ ledger %d", last.Rewards, last.Ledger.Rewards)
	}
	if len(res.Faults) != 3 {
		t.Errorf("%d faults, want 3", len(res.Faults))
	}
	if err := res.write(filepath.Join(t.TempDir(), "out", "chaos.json")); err != nil {
		t.Error(err)
	}
}

func TestOrder(t *testing.T) {
	names := func(seed uint64) (all []string) {
		for _, k := range order(usualNames(), 5, rand.New(rand.NewPCG(seed, 0))) {
			all = append(all, k.name)
		}
		return all
	}
	a := names(1)
	if !slices.Equal(a, names(1)) || slices.Equal(a, names(2)) {
		t.Error("a seed does not give an order")
	}
	slices.Sort(a)
	for _, name := range usualNames() {
		if first, found := slices.BinarySearch(a, name); !found || a[first+4] != name || len(a) != 5*len(usualNames()) {
			t.Errorf("%s does not come five times: %v", name, a)
		}
	}
}

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"-faults kill-everything": `there is no "kill-everything"`,
		"-rounds 0":               "-rounds: is 0",
		"-rate 100":               "-rate: is 100; want more than -least",
		"-crowd 65":               "want 1 to all 64 players",
		"-batch 257":              "want 1 to 256",
		"-ack perhaps":            `-ack: is "perhaps"`,
		"now":                     "want flags only",
		"-for soon":               "used wrongly",
	} {
		if _, err := parse(strings.Fields(args)); !errors.Is(err, program.ErrUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	if _, err := parse([]string{"-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	o, err := parse([]string{"-rate", "2400"})
	if err != nil || o.tiles != 3250 || len(o.faults) != len(kinds)-1 || o.seed == 0 {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestBroken has each thing that must not be named, and excused only where
// that is what the run is to show.
func TestBroken(t *testing.T) {
	good := func() *result {
		res := &result{Rate: rates{QuietWon: 2100}, Verified: make([]verified, 2)}
		for i := range res.Verified {
			res.Verified[i].Report.OK = true
		}
		return res
	}
	last := func(res *result) *verified { return &res.Verified[1] }
	cases := []struct {
		name    string
		spoil   func(*result)
		want    string
		primary bool // it counts with ack primary as well
	}{
		{"lost", func(r *result) { r.Ledger.Lost = 3 }, "3 acknowledged claims are lost", false},
		{"two winners", func(r *result) { r.History.TwoWinners = 1 }, "1 tiles have two winners", false},
		{"no legal order", func(r *result) { r.History.Impossible = 1 }, "1 histories", false},
		{"a retry answered otherwise", func(r *result) { r.History.Other = 1 }, "1 retries", false},
		{"moved", func(r *result) { r.Ledger.Moved = 1 }, "stand elsewhere", false},
		{"verify", func(r *result) { r.Verified[0].Report.OK = false }, "verify", true},
		{"Σ", func(r *result) { last(r).Report.Rewards = 1 }, "Σ log is 1, Σ ledger 0", true},
		{"not settled", func(r *result) { last(r).Report.Ledger.Behind = 1 }, "1 claims are not settled", true},
		{"silent", func(r *result) { r.Faults = []*record{{Silent: []string{"maps[0]"}}} }, "maps[0] had not gone on", true},
		{"too slow", func(r *result) { r.Rate.QuietWon = 1999 }, "does not count", true},
		{"a planned roll", func(r *result) {
			r.Faults = []*record{{Kind: "roll-claims"}}
			r.Faults[0].Counts.Pending = 2
		}, "2 tries failed", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res := good()
			c.spoil(res)
			for _, ack := range []string{"replicas", "primary"} {
				r := &run{o: options{ack: ack, least: 2000}}
				res.Broken = r.broken(res)
				if ack == "primary" && !c.primary {
					if err := res.verdict(); err != nil {
						t.Errorf("ack primary: %v, want none", err)
					}
				} else if err := res.verdict(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("ack %s: %v, want %q", ack, err, c.want)
				}
			}
		})
	}
	if broken := (&run{o: options{ack: "replicas", least: 2000}}).broken(good()); len(broken) > 0 {
		t.Errorf("a good run is broken: %q", broken)
	}
}

func TestPrint(t *testing.T) {
	res := &result{
		Faults:  []*record{{Kind: "reshard", Claims: 300}, {Kind: "kill-claims", Claims: 800, Lost: 1}, {Kind: "kill-claims", Claims: 700}, {Kind: "kill-claims", Claims: 900}},
		History: history.Findings{Samples: []string{"map 1"}},
	}
	res.Faults[1].Counts.Failed = 4
	res.Faults[2].Counts.Failed = 5
	var b bytes.Buffer
	res.print(&b)
	want := "| kill-claims | 3 | 0.80s | 0.90s | 0.00s | 0.00s | 0.00s | 0.00s | 0.00s | 0.00s | 0.00s | 0.00s | 0.00s | 0.00s | 9 | 0 | 0 | 0 | 1 |\n| reshard | 1 |"
	if !strings.Contains(b.String(), want) {
		t.Errorf("got\n%s\nwant in it\n%s", &b, want)
	}
}
