//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/internal/lab"
)

// How long things stay broken.
const (
	roleAwayFor     = 3 * time.Second  // a killed role, until it is started again
	claimsStopFor   = 10 * time.Second // SIGSTOP of a claims process
	primaryStopFor  = 8 * time.Second  // SIGSTOP of a Redis primary: four times the node timeout
	primaryAwayFor  = 5 * time.Second  // a killed Redis node, until it is started again
	postgresAwayFor = 10 * time.Second
	nodeTimeout     = 2 * time.Second
	reshardSlots    = 600
)

// A kind is a kind of fault.
type kind struct {
	name string

	// inject breaks something and heals it. It says at once whom it hits, and
	// returns when all that was broken is there again.
	inject func(ctx context.Context, r *run, hits func(string)) error

	extra bool // only on request
}

var kinds = []kind{
	{name: "kill-claims", inject: killRole("claims")},           // kill -9 of a claims process; started again after 3 s
	{name: "kill-generator", inject: killRole("generator")},     // kill -9 of the generator that works; started again after 3 s
	{name: "kill-gateway", inject: killRole("gateway")},         // kill -9 of a gateway; started again after 3 s
	{name: "kill-rewards", inject: killRole("rewards")},         // kill -9 of a rewards process; started again after 3 s
	{name: "kill-leaderboard", inject: killRole("leaderboard")}, // kill -9 of the leaderboard that works; started again after 3 s
	{name: "stop-claims", inject: stopClaims},                   // SIGSTOP of a claims process for 10 s
	{name: "stop-primary", inject: stopPrimary},                 // SIGSTOP of a Redis primary for 8 s, node timeout 2 s
	{name: "kill-primary", inject: killPrimary},                 // kill -9 of a Redis primary; started again after 5 s
	{name: "reshard", inject: reshard},                          // 600 slots moved from one primary to another
	{name: "stop-postgres", inject: stopPostgres},               // PostgreSQL stopped for 10 s
	{name: "roll-claims", inject: rollClaims},                   // a claims process interrupted, drained and started again: planned
	{name: "kill-both", inject: killBoth, extra: true},          // kill -9 of a Redis primary and of all claims processes, which could have put back what the primary had alone
}

// kindNames returns the names of all kinds, in the order of the report.
func kindNames() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// usualNames returns the names of the kinds of a run that names none.
func usualNames() []string {
	return slices.DeleteFunc(kindNames(), func(name string) bool { return kindOf(name).extra })
}

func kindOf(name string) kind {
	return kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })]
}

// order returns the faults of a run: each kind as often as there are rounds,
// shuffled over the whole run.
func order(names []string, rounds int, rng *rand.Rand) []kind {
	var all []kind
	for range rounds {
		for _, name := range names {
			all = append(all, kindOf(name))
		}
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// killRole kills a process of a role: the one that leads, where one does.
func killRole(role string) func(context.Context, *run, func(string)) error {
	return func(ctx context.Context, r *run, hits func(string)) error {
		victim, err := r.worker(ctx, role)
		if err != nil {
			return err
		}
		hits(victim.Name)
		if err := victim.Kill(); err != nil {
			return err
		}
		if err := program.Sleep(ctx, roleAwayFor); err != nil {
			return err
		}
		return errors.Join(victim.Start(ctx), victim.AwaitReady(ctx))
	}
}

// worker returns a process of a role, at random among those that lead, or
// among all if none says that it does.
func (r *run) worker(ctx context.Context, role string) (*lab.Role, error) {
	all := r.fleet.Roles(role)
	if len(all) == 0 {
		return nil, fmt.Errorf("the fleet has no %s", role)
	}
	var lead []*lab.Role
	for _, p := range all {
		families, err := p.Metrics(ctx)
		if err != nil {
			return nil, err
		}
		for _, m := range families["cairn_fleet_leads"].GetMetric() {
			if m.GetGauge().GetValue() == 1 {
				lead = append(lead, p)
			}
		}
	}
	if len(lead) > 0 {
		all = lead
	}
	return all[r.rng.IntN(len(all))], nil
}

func stopClaims(ctx context.Context, r *run, hits func(string)) error {
	victim, err := r.worker(ctx, "claims")
	if err != nil {
		return err
	}
	hits(victim.Name)
	if err := victim.Pause(); err != nil {
		return err
	}
	return errors.Join(program.Sleep(ctx, claimsStopFor), victim.Continue(), victim.AwaitReady(ctx))
}

// primary returns a primary with slots, at random.
func (r *run) primary(ctx context.Context) (*lab.Redis, error) {
	all, err := r.fleet.Redis.Primaries(ctx)
	if err != nil {
		return nil, err
	}
	return all[r.rng.IntN(len(all))], nil
}

func stopPrimary(ctx context.Context, r *run, hits func(string)) error {
	victim, err := r.primary(ctx)
	if err != nil {
		return err
	}
	hits(victim.Name)
	if err := victim.Pause(); err != nil {
		return err
	}
	return errors.Join(program.Sleep(ctx, primaryStopFor), victim.Continue(), r.fleet.Redis.Settle(ctx))
}

func killPrimary(ctx context.Context, r *run, hits func(string)) error {
	victim, err := r.primary(ctx)
	if err != nil {
		return err
	}
	hits(victim.Name)
	if err := victim.Kill(); err != nil {
		return err
	}
	return errors.Join(program.Sleep(ctx, primaryAwayFor), victim.Restart(ctx), r.fleet.Redis.Settle(ctx))
}

// reshard moves slots from the primary that has most to the one that has
// fewest, so that the Cluster stays about even, however often.
func reshard(ctx context.Context, r *run, hits func(string)) error {
	nodes, err := r.fleet.Redis.Topology(ctx)
	if err != nil {
		return err
	}
	nodes = slices.DeleteFunc(nodes, func(n lab.Node) bool { return !n.Primary || n.Slots == 0 })
	if len(nodes) < 2 {
		return fmt.Errorf("%d primaries have slots; want two or more", len(nodes))
	}
	fewer := func(a, b lab.Node) int { return a.Slots - b.Slots }
	from, to := slices.MaxFunc(nodes, fewer), slices.MinFunc(nodes, fewer)
	if from.Redis == to.Redis { // all even
		from, to = nodes[0], nodes[1]
	}
	hits(fmt.Sprintf("%s → %s", from.Name, to.Name))
	return errors.Join(r.fleet.Redis.Reshard(ctx, from.Redis, to.Redis, reshardSlots), r.fleet.Redis.Settle(ctx))
}

func stopPostgres(ctx context.Context, r *run, hits func(string)) error {
	hits("postgres")
	if err := r.fleet.Ledger.StopImmediately(ctx); err != nil {
		return err
	}
	return errors.Join(program.Sleep(ctx, postgresAwayFor), r.fleet.Ledger.Restart(ctx))
}

func rollClaims(ctx context.Context, r *run, hits func(string)) error {
	victim, err := r.worker(ctx, "claims")
	if err != nil {
		return err
	}
	hits(victim.Name)
	return errors.Join(victim.Stop(ctx), victim.Start(ctx), victim.AwaitReady(ctx))
}

// killBoth kills a primary and, at the same time, all who know what it was
// told.
func killBoth(ctx context.Context, r *run, hits func(string)) error {
	victim, err := r.primary(ctx)
	if err != nil {
		return err
	}
	hits(victim.Name + ", claims")
	var kills errgroup.Group
	kills.Go(victim.Kill)
	for _, c := range r.fleet.Roles("claims") {
		kills.Go(c.Kill)
	}
	if err := kills.Wait(); err != nil {
		return err
	}
	var starts errgroup.Group
	for _, c := range r.fleet.Roles("claims") {
		starts.Go(func() error { return supervise(ctx, c) })
	}
	return errors.Join(program.Sleep(ctx, primaryAwayFor), victim.Restart(ctx), r.fleet.Redis.Settle(ctx), starts.Wait())
}

// supervise starts a role again and again until it stays, as whoever runs it in
// production does: one that finds a primary away when it starts ends at once.
func supervise(ctx context.Context, c *lab.Role) error {
	for end := time.Now().Add(heardWithin); ; {
		err := c.Start(ctx)
		if err == nil || time.Now().After(end) || program.Sleep(ctx, time.Second) != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}
