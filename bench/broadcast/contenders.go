//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/broadcast/system"
	"github.com/veltrix/cairn/bench/broadcast/trial"
	"github.com/veltrix/cairn/bench/program"
)

// A contender is a system as it is measured.
type contender struct {
	name   string
	spec   system.Spec
	opts   trial.Options
	sweeps []time.Duration // ours: measured at each, one delta a second; the last one is kept for higher rates
}

// The settings of the knob at which ours is measured: as low as it goes, to be
// compared with those who send at once, and as it is by default.
const (
	sweepLow     = 5 * time.Millisecond
	sweepDefault = 50 * time.Millisecond
)

// writeDelay is how long centrifuge gathers messages where it does.
const writeDelay = 10 * time.Millisecond

// The names that results go by. That of centrifuge with a WriteDelay and that
// of ours in the protobuf codec are only in the details.
const (
	nameFloor           = "floor"
	nameCentrifuge      = "centrifuge"
	nameCentrifugeDelay = "centrifuge-delay"
	nameRabbitMQ        = "rabbitmq"
	nameOurs            = "ours"
	nameOursProto       = "ours-proto"
)

// atOnce has our gateways take handshakes as they come, as the others do; a
// storm of them is measured elsewhere.
var atOnce = []string{"--connect-rate", "1000000", "--connect-burst", "1000000"}

var contenders = []contender{
	{name: nameFloor, spec: system.Spec{Kind: system.Floor}},
	{name: nameCentrifuge, spec: system.Spec{Kind: system.Centrifuge}},
	{name: nameCentrifugeDelay, spec: system.Spec{Kind: system.Centrifuge, WriteDelay: writeDelay}},
	{name: nameRabbitMQ, spec: system.Spec{Kind: system.RabbitMQ}},
	{name: nameOurs, spec: system.Spec{Kind: system.Ours, Sweep: sweepLow, Args: atOnce}, sweeps: []time.Duration{sweepLow, sweepDefault}},
	{name: nameOursProto, spec: system.Spec{Kind: system.Ours, Sweep: sweepLow, Args: atOnce}, opts: trial.Options{Proto: true}, sweeps: []time.Duration{sweepLow, sweepDefault}},
}

// chosen returns the contenders that -only names; without it all, but for those
// left out.
func (c *common) chosen(without ...string) ([]contender, error) {
	if c.only != "" {
		without = nil
	}
	var some []contender
	left := map[string]bool{}
	for n := range strings.SplitSeq(c.only, ",") {
		left[n] = n != ""
	}
	for _, x := range contenders {
		out := false
		for _, n := range without {
			out = out || n == x.name
		}
		if c.wants(x.name) && !out {
			some = append(some, x)
		}
		delete(left, x.name)
	}
	for n, unknown := range left {
		if unknown {
			return nil, fmt.Errorf("%w: -only: there is no %q", program.ErrUsage, n)
		}
	}
	return some, nil
}

// turn returns all in an order that begins with another one each round, so that
// what a run leaves behind hits no one always.
func turn(all []contender, round int) []contender {
	k := round % len(all)
	return append(append([]contender(nil), all[k:]...), all[:k]...)
}

// A plan is what is done with each contender.
type plan struct {
	connections int
	perSecond   float64 // connections a second as they come
	idle        time.Duration
	load        time.Duration
	rates       []float64 // beyond one a second, upward while it keeps up
	profiles    string    // folder that gets CPU profiles of ours; empty for none
}

// measure starts a contender and does what is planned.
func (p *plan) measure(ctx context.Context, k *system.Kit, c contender, round int) (_ *entry, err error) {
	t, err := trial.Begin(ctx, k, c.spec, c.opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.End()) }()
	e := &entry{Name: c.name, Round: round}
	if e.Growth, err = t.Grow(ctx, p.connections, p.perSecond, p.idle); err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	program.Say("%-16s %d connections in %.1f s; %.1f KB idle, %.1f KB in the kernel", c.name, e.Growth.Connections, e.Growth.RampSeconds, e.Growth.BytesIdle/1000, e.Growth.BytesKernel/1000)
	sweeps := c.sweeps
	if sweeps == nil {
		sweeps = []time.Duration{0}
	}
	for i, s := range sweeps {
		if i > 0 {
			if err := t.System.SetSweep(ctx, s); err != nil {
				return nil, err
			}
		}
		if _, err := p.loaded(ctx, t, e, 1); err != nil {
			return nil, err
		}
	}
	if p.profiles != "" && t.System.Ours() {
		if err := p.profile(ctx, t, e); err != nil {
			return nil, err
		}
	}
	for _, rate := range p.rates {
		l, err := p.loaded(ctx, t, e, rate)
		if err == nil && !l.Kept { // once more: the machine may have had a hiccup
			e.Loads = e.Loads[:len(e.Loads)-1]
			l, err = p.loaded(ctx, t, e, rate)
		}
		if err != nil {
			return nil, err
		}
		if !l.Kept {
			break
		}
	}
	return e, nil
}

// loaded publishes at a rate and takes down what came of it.
func (p *plan) loaded(ctx context.Context, t *trial.Trial, e *entry, rate float64) (*trial.Load, error) {
	l, err := t.Load(ctx, rate, p.load)
	if err != nil {
		return nil, fmt.Errorf("%s at %g/s: %w", e.Name, rate, err)
	}
	e.Loads = append(e.Loads, l)
	note := ""
	if l.SweepMS > 0 {
		note = fmt.Sprintf(", sweep %g ms", l.SweepMS)
	}
	if !l.Kept {
		note += "; does not keep up: " + l.Why
	}
	program.Say("%-16s %4g/s: p50 %6.1f ms, p99 %6.1f ms, %5.2f µs CPU a delivery, %.1f KB%s", e.Name, rate, l.P50, l.P99, l.CPUEach, l.BytesLoaded/1000, note)
	return l, nil
}

// profile publishes once more, one delta a second, and writes down what the
// gateway spent its CPU on.
func (p *plan) profile(ctx context.Context, t *trial.Trial, e *entry) error {
	prof, err := t.Profile(ctx, 1, p.load)
	if err != nil {
		return err
	}
	path := filepath.Join(p.profiles, fmt.Sprintf("broadcast-%s-%d.pprof", e.Name, p.connections))
	program.Say("%-16s profile: %s", e.Name, path)
	return os.WriteFile(path, prof, 0o644)
}
