//go:build unix

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/load/crowd"
)

// The phases of a run.
const (
	phaseBefore = "before"
	phaseSurge  = "surge"
	phaseAfter  = "after"
)

var phaseNames = []string{phaseBefore, phaseSurge, phaseAfter}

// A Sample is how it stood at one moment, and what happened in the second
// before it.
type Sample struct {
	At        float64            `json:"s"`
	Clients   int                `json:"clients"`   // that are to watch
	Connected int                `json:"connected"` // of them
	Gateways  int                `json:"gateways"`  // processes, those that start or end too
	Ready     int                `json:"gateways_ready"`
	Claims    int                `json:"claims"` // processes
	Wants     map[string]float64 `json:"wants"`  // by role and trigger: processes, not rounded
	Refused   int64              `json:"refused"`
	Delivery  float64            `json:"delivery_p99_ms"`

	Decided   int64   `json:"decided"` // attempts
	Undecided int64   `json:"undecided"`
	Claim     float64 `json:"claim_p99_ms"`
}

// sample looks once a second until ctx ends.
func (r *run) sample(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err := r.look(now); err != nil {
				program.Say("what the clients saw is not known: %v", err)
				return
			}
		}
	}
}

// look takes down how it stands, and what clients that watch saw since the last
// look.
func (r *run) look(now time.Time) error {
	r.sampling.Lock()
	defer r.sampling.Unlock()
	seen := crowd.NewStats()
	connected := 0
	for _, c := range r.crowds() {
		w, err := c.Window(context.Background())
		if err != nil {
			return err
		}
		seen.Add(w)
		connected += w.Connected
	}
	r.watch.Add(seen)
	if r.phases[r.phase] == nil {
		r.phases[r.phase] = crowd.NewStats()
	}
	r.phases[r.phase].Add(seen)
	s := Sample{
		At: now.Sub(r.began).Seconds(), Clients: r.clients, Connected: connected, Wants: map[string]float64{},
		Refused: seen.Refused, Delivery: milliseconds(seen.Latency.Quantile(0.99)),
	}
	for _, x := range r.roles {
		h := x.pods.count()
		if x.policy.Role == "gateway" {
			s.Gateways, s.Ready = h.running, h.ready
		} else {
			s.Claims = h.running
		}
		wants := x.wants()
		for trigger, n := range wants {
			s.Wants[x.policy.Role+"/"+trigger] = n
		}
	}
	r.samples = append(r.samples, s)
	return nil
}

// answers fills in what players were told, when all is known.
func (r *run) answers() {
	for i := range r.samples {
		s := &r.samples[i]
		at := r.began.Add(time.Duration((s.At - 1) * float64(time.Second)))
		counts, waits := r.play.Touching(at, at.Add(time.Millisecond))
		s.Decided = counts.Won + counts.Gone + counts.Closed + counts.Unknown + counts.Again
		s.Undecided = counts.Undecided()
		s.Claim = milliseconds(waits.Quantile(0.99))
	}
}

// why says in a few words what each trigger wants, the most first.
func why(wants map[string]float64) string {
	names := slices.SortedFunc(maps.Keys(wants), func(a, b string) int {
		if wants[a] != wants[b] {
			return int(1000 * (wants[b] - wants[a]))
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, n := range names {
		parts = append(parts, fmt.Sprintf("%s %.2f", n, wants[n]))
	}
	return strings.Join(parts, ", ")
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
