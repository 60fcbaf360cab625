//go:build unix

// Package endtoend measures claims from a player's socket to the player's
// socket, everything on one machine: ours, a real `cairn up`, beside a gateway
// that has a Lua script on Redis decide (bench/claims/endtoend/gateway); and the
// original's mix of 85% reads of the standings and 15% claims over HTTP, beside
// the same gateway on PostgreSQL, whose materialised view is read from a
// streaming follower.
//
// All get the same attempts from the same client. After each run what the store
// holds is compared with what the players were told.
package endtoend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/veltrix/cairn/internal/lab"
)

// The systems. Those on sockets are measured by claims alone, the others by the
// mix over HTTP.
const (
	OursFilelog = "ours-filelog"
	OursRedis   = "ours-redis"
	Lua         = "lua"

	OursMix = "ours"
	ViewMix = "materialised-view"
)

// Options says what is measured. See [Short] and [Full].
type Options struct {
	Rounds int
	Tiles  int // of a map, of which one opens each second

	Sockets []string      // systems on sockets; nil means all
	Players int           // each on a socket of its own
	Window  int           // claims that each has in flight, at most
	Flood   time.Duration // how long all windows are kept full
	Paced   time.Duration // how long claims are sent at
	Rate    float64       // so many a second

	Mixes      []string      // systems of the mix; nil means both
	Mix        time.Duration // how long the mix is asked for at
	MixRate    float64       // so many requests a second
	MixPlayers int           // who have claims before it begins
	MixClaims  int           // that each has tried
	Refresh    time.Duration // of the materialised view, from one to the next

	Dir string                           // for what is on disk; "" means the system's for temporary files
	Say func(format string, args ...any) // progress; nil means nobody hears it
}

// Short returns options for a run of two minutes.
func Short() Options {
	o := Full()
	o.Rounds, o.Flood, o.Paced, o.Mix = 3, 2*time.Second, 2*time.Second, 4*time.Second
	return o
}

// Full returns options for a run of some minutes.
func Full() Options {
	return Options{
		Rounds: 5, Tiles: 5000,
		Players: 32, Window: 64, Flood: 10 * time.Second, Paced: 10 * time.Second, Rate: 40_000,
		Mix: 20 * time.Second, MixRate: 1000, MixPlayers: 1000, MixClaims: 10, Refresh: time.Second,
	}
}

// share of the mix's requests that are claims: the original's.
const claimShare = 15 // percent

// A bench runs systems, one at a time.
type bench struct {
	opts  *Options
	lab   *lab.Lab
	count int // of systems that were started, which names them
}

// Run measures all systems in each round, each round beginning with another.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if o.Sockets == nil {
		o.Sockets = []string{OursFilelog, OursRedis, Lua}
	}
	if o.Mixes == nil {
		o.Mixes = []string{OursMix, ViewMix}
	}
	for _, s := range append(slices.Clone(o.Sockets), o.Mixes...) {
		if !slices.Contains([]string{OursFilelog, OursRedis, Lua, OursMix, ViewMix}, s) {
			return nil, fmt.Errorf("endtoend: there is no system %q", s)
		}
	}
	l, err := lab.New(lab.Options{Parent: o.Dir})
	if err != nil {
		return nil, err
	}
	b := &bench{opts: &o, lab: l}
	r := &Report{
		Players: o.Players, Window: o.Window, Tiles: o.Tiles, Rate: o.Rate,
		MixRate: o.MixRate, MixPlayers: o.MixPlayers, RefreshMS: o.Refresh.Milliseconds(),
	}
	return r, errors.Join(b.rounds(ctx, r), l.Close())
}

func (b *bench) rounds(ctx context.Context, r *Report) error {
	o := b.opts
	for round := range o.Rounds {
		for i := range o.Sockets {
			name := o.Sockets[(i+round)%len(o.Sockets)]
			m, err := b.sockets(ctx, name)
			if err != nil {
				return fmt.Errorf("endtoend: %s: %w", name, err)
			}
			r.Sockets = append(r.Sockets, m)
			o.Say("end to end, round %d: %s", round+1, m)
		}
		for i := range o.Mixes {
			name := o.Mixes[(i+round)%len(o.Mixes)]
			m, err := b.mix(ctx, name)
			if err != nil {
				return fmt.Errorf("endtoend: %s: %w", name, err)
			}
			r.Mixes = append(r.Mixes, m)
			o.Say("end to end, round %d: %s", round+1, m)
		}
	}
	return nil
}

// start starts a system.
func (b *bench) start(ctx context.Context, name string) (*system, error) {
	switch name {
	case OursFilelog, OursMix:
		return b.startUp(ctx, name, nil)
	case OursRedis:
		redis, err := b.lab.StartRedis(ctx, b.label("redis"), "--appendonly", "no")
		if err != nil {
			return nil, err
		}
		return b.startUp(ctx, name, redis)
	case Lua:
		return b.startLua(ctx)
	}
	return b.startView(ctx)
}

// label returns a name that nothing else in the lab has.
func (b *bench) label(name string) string {
	b.count++
	return fmt.Sprintf("%s-%d", name, b.count)
}
