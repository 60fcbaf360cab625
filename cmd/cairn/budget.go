package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn/internal/eventlog/redislog"
	"github.com/veltrix/cairn/internal/fleet"
	"github.com/veltrix/cairn/internal/fleet/redisreg"
)

// roleNames are the roles that a fleet has.
var roleNames = []string{fleet.RoleGenerator, fleet.RoleClaims, fleet.RoleGateway, fleet.RoleLeaderboard, fleet.RoleRewards}

// parseFleet parses --fleet: how many processes of each role there are to be.
// It returns nil for "".
func parseFleet(s string) (map[string]int, error) {
	if s == "" {
		return nil, nil
	}
	want := "want ROLE=N,…, with the roles " + strings.Join(roleNames, ", ")
	declared := map[string]int{}
	for part := range strings.SplitSeq(s, ",") {
		name, count, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.Atoi(count)
		switch {
		case !slices.Contains(roleNames, name):
			return nil, usagef("--fleet: %q is no role; %s", name, want)
		case err != nil || n < 0 || n > 10_000:
			return nil, usagef("--fleet: %s=%q; want 0 to 10000 processes", name, count)
		}
		if _, twice := declared[name]; twice {
			return nil, usagef("--fleet: %s is there twice; %s", name, want)
		}
		declared[name] = n
	}
	return declared, nil
}

// budgetOf returns the most connections that a fleet has to one node of Redis,
// were all its logs there: each process reads all logs over one, keeps its
// lease over others, and each log that is written has one more, twice while it
// is handed over or a reply is in doubt.
func budgetOf(processes, writers int) int {
	return processes*(redislog.ReadConnections+redisreg.Connections) + 2*writers
}

// otherWriters are those of maps and standings, and of control while an
// operator acts.
const otherWriters = 3

// headroom is what is left of maxclients for others: replicas, operators'
// tools, and what Redis has not noticed to be gone yet.
const headroom = 10 // percent

// budget says how many connections to a node of Redis this process may have,
// and refuses a fleet whose sum does not fit.
func budget(ctx context.Context, r *role, declared map[string]int) error {
	mine := budgetOf(1, writersOf(r.what, r.shards))
	args := []any{"this_process", mine}
	if declared == nil {
		r.log.Info("connections to one node of Redis, at most", args...)
		return nil
	}
	exportDeclared(r.metrics, declared)
	limit, err := r.store.MaxClients(ctx)
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	sum := budgetOf(count(declared), r.shards+otherWriters)
	r.log.Info("connections to one node of Redis, at most", append(args, "fleet", sum, "maxclients", limit)...)
	if sum > limit-limit*headroom/100 {
		return fmt.Errorf("--fleet: %d processes and %d shards may open %d connections to a node of Redis, which takes %d and of which %d%% are kept free: CONFIG SET maxclients %d, and raise its limit of open files with it",
			count(declared), r.shards, sum, limit, headroom, sum*100/(100-headroom)+1)
	}
	return nil
}

// exportDeclared makes what --fleet says a metric: an alert holds what is wanted
// against it.
func exportDeclared(reg prometheus.Registerer, declared map[string]int) {
	most := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "cairn_fleet_declared_processes",
		Help: "Processes of a role that there may be, as --fleet says.",
	}, []string{"role"})
	reg.MustRegister(most)
	for name, n := range declared {
		most.WithLabelValues(name).Set(float64(n))
	}
}

func count(declared map[string]int) (n int) {
	for _, c := range declared {
		n += c
	}
	return n
}

// writersOf returns how many logs a process of a role may write at once.
func writersOf(what string, shards int) int {
	switch what {
	case fleet.RoleClaims:
		return shards
	case fleet.RoleGenerator, fleet.RoleLeaderboard, fleet.RoleGateway:
		return 1
	}
	return 0
}
