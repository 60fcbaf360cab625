//go:build unix

package main

import (
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/capacity/sim"
)

// TestSimConfig: the simulation wants as many processes as the policy's
// thresholds say, and has them go as its rules say.
func TestSimConfig(t *testing.T) {
	o, err := parse([]string{"-short"})
	if err != nil {
		t.Fatal(err)
	}
	o.objects = "../../deploy/kubernetes/base"
	for role, want := range map[string]int{"gateway": 5, "claims": 2} {
		p, err := o.policy(role, 8)
		if err != nil {
			t.Fatal(err)
		}
		c, err := simConfig(p, o, time.Second, 0)
		if err != nil {
			t.Fatal(err)
		}
		few := sim.Point{Connections: 200, Events: 40}
		// Fills gateways to 0.6 of 4.2, and claims processes to 250 of 1.4.
		many := sim.Point{Connections: 2520, Events: 350}
		for _, at := range []struct {
			second float64
			sim.Point
		}{{0, few}, {10, few}, {11, many}, {60, many}, {61, few}, {150, few}} {
			at.At = time.Duration(at.second * float64(time.Second))
			c.Traffic = append(c.Traffic, at.Point)
		}
		r, err := sim.Run(*c)
		if err != nil {
			t.Fatal(err)
		}
		if r.PodsMost != want {
			t.Errorf("%s: %d processes at most, want %d", role, r.PodsMost, want)
		}
		if last := r.Timeline[len(r.Timeline)-1]; last.Pods != 1 {
			t.Errorf("%s: %d processes in the end, want 1", role, last.Pods)
		}
	}
}
