//go:build unix

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// A Spec says what a fleet is made of. The zero value has two of each role on
// three Redis primaries without replicas, and no hunt. A negative count means
// none.
type Spec struct {
	Generators, Claims, Gateways, Leaderboards, Rewards int // 0 means 2
	// Most is how many of a role there may be, as --fleet has it, where
	// [Fleet.Start] is to start more of them; 0 means as many as there are.
	Most map[string]int

	Redis    ClusterOptions
	Postgres PostgresOptions

	// Ack is when an append counts: auto, primary, replicas or fsync; empty
	// means auto. Redis is set up to match.
	Ack string
	// ShardsMax is how many shards are provisioned; 0 means cairn's default.
	ShardsMax int
	// Hunts are created and started, each as YAML or JSON.
	Hunts []string
	// FirstGateway is the players' address of the first gateway; empty means a
	// free port.
	FirstGateway string
	// Args are more flags of every process of a role.
	Args map[string][]string
}

// Roles are all roles, in the order in which a fleet drains: first those that
// make facts, then those that follow them.
var Roles = []string{"gateway", "generator", "claims", "leaderboard", "rewards"}

// count returns how many of a role there are to be.
func (s Spec) count(role string) int {
	n := map[string]int{"gateway": s.Gateways, "generator": s.Generators, "claims": s.Claims, "leaderboard": s.Leaderboards, "rewards": s.Rewards}[role]
	if n == 0 {
		return 2
	}
	return max(0, n)
}

// redis returns the Cluster that keeps what Ack promises.
func (s Spec) redis() ClusterOptions {
	o := s.Redis
	switch {
	case s.Ack == "fsync":
		o.Settings = append([]string{"--appendfsync", "always"}, o.Settings...)
	case s.Ack != "primary" && o.Replicas > 0 && o.MinReplicas == 0:
		o.MinReplicas = 1
	}
	return o
}

// A Fleet is a Redis Cluster, a PostgreSQL and processes of all roles.
type Fleet struct {
	Lab    *Lab
	Redis  *Cluster
	Ledger *Postgres
	Keys   string // the file of the secrets that all share

	spec Spec

	mu    sync.Mutex
	roles []*Role        // in the order of Roles, and of their names; then those that were started later
	last  map[string]int // the highest number of a role
}

// StartFleet starts a whole fleet: Redis and PostgreSQL, the logs provisioned,
// all roles, the hunts, and waits until every role is ready. What it started is
// ended by the lab's Close, whether it fails or not.
func (l *Lab) StartFleet(ctx context.Context, spec Spec) (*Fleet, error) {
	f := &Fleet{Lab: l, spec: spec}
	stores, storesCtx := errgroup.WithContext(ctx)
	stores.Go(func() error {
		_, err := l.Build(storesCtx)
		return err
	})
	stores.Go(func() (err error) {
		f.Redis, err = l.StartCluster(storesCtx, spec.redis())
		return err
	})
	stores.Go(func() (err error) {
		f.Ledger, err = l.StartPostgres(storesCtx, "postgres", spec.Postgres)
		return err
	})
	if err := stores.Wait(); err != nil {
		return nil, err
	}
	f.Keys = filepath.Join(l.Dir, "keys.json")
	init := []string{"log", "init", "--log", f.Redis.URL(), "--keys", f.Keys}
	if spec.Ack != "" {
		init = append(init, "--ack", spec.Ack)
	}
	if spec.ShardsMax > 0 {
		init = append(init, "--shards-max", strconv.Itoa(spec.ShardsMax))
	}
	if _, err := f.Cairn(ctx, init...); err != nil {
		return nil, err
	}
	if err := f.startRoles(ctx); err != nil {
		return nil, err
	}
	for i, hunt := range spec.Hunts {
		if err := f.createHunt(ctx, fmt.Sprintf("hunt-%d.yaml", i+1), hunt); err != nil {
			return nil, err
		}
	}
	return f, f.AwaitReady(ctx)
}

func (f *Fleet) startRoles(ctx context.Context) error {
	type place struct {
		role string
		n    int
	}
	var places []place
	f.last = map[string]int{}
	for _, role := range Roles {
		f.last[role] = f.spec.count(role)
		for n := range f.spec.count(role) {
			places = append(places, place{role, n + 1})
		}
	}
	f.roles = make([]*Role, len(places))
	starts, startCtx := errgroup.WithContext(ctx)
	for i, p := range places {
		starts.Go(func() (err error) {
			f.roles[i], err = f.start(startCtx, p.role, p.n)
			return err
		})
	}
	return starts.Wait()
}

// Start starts one more process of a role, under a name that none had before,
// and returns when it can be reached; it may not be ready yet. Start may be
// called concurrently, and with Roles.
func (f *Fleet) Start(ctx context.Context, role string) (*Role, error) {
	f.mu.Lock()
	f.last[role]++
	n := f.last[role]
	f.mu.Unlock()
	r, err := f.start(ctx, role, n)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roles = append(f.roles, r)
	return r, nil
}

// start starts the n-th process of a role.
func (f *Fleet) start(ctx context.Context, role string, n int) (*Role, error) {
	name := fmt.Sprintf("%s-%d", role, n)
	args := []string{"--log", f.Redis.URL(), "--fleet", f.declared(), "--log-format", "text"}
	if f.spec.Ack != "" {
		args = append(args, "--ack", f.spec.Ack)
	}
	switch role {
	case "generator", "claims":
		args = append(args, "--keys", f.Keys)
	case "gateway":
		args = append(args, "--keys", f.Keys, "--ledger", f.Ledger.DSN(), "--guests")
		if n == 1 && f.spec.FirstGateway != "" {
			args = append(args, "--listen", f.spec.FirstGateway)
		}
	case "leaderboard":
		dir, err := f.Lab.folder(name)
		if err != nil {
			return nil, err
		}
		args = append(args, "--ledger", f.Ledger.DSN(), "--data", dir)
	case "rewards":
		args = append(args, "--ledger", f.Ledger.DSN())
	}
	return f.Lab.StartRole(ctx, role, name, append(args, f.spec.Args[role]...)...)
}

// declared is the fleet as --fleet has it.
func (f *Fleet) declared() string {
	var parts []string
	for _, role := range Roles {
		if n := max(f.spec.count(role), f.spec.Most[role]); n > 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", role, n))
		}
	}
	return strings.Join(parts, ",")
}

// Roles returns every process of a role, or of all roles for "", those that
// have ended too.
func (f *Fleet) Roles(role string) []*Role {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.roles), func(r *Role) bool { return role != "" && r.Role != role })
}

// Cairn runs a command of cairn and returns what it printed on stdout. If it
// fails, the error has what it printed on stderr.
func (f *Fleet) Cairn(ctx context.Context, args ...string) ([]byte, error) {
	bin, err := f.Lab.Build(ctx)
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("lab: cairn %s: %w\n%s%s", strings.Join(args[:min(2, len(args))], " "), err, out, stderr.Bytes())
	}
	return out, nil
}

// Verify has cairn check every invariant on what there is, while it runs. It
// returns the report as JSON, which is there with an error as well.
func (f *Fleet) Verify(ctx context.Context) ([]byte, error) {
	return f.Cairn(ctx, "verify", "--log", f.Redis.URL(), "--ledger", f.Ledger.DSN(), "--json")
}

// CreateHunt creates a hunt, as YAML or JSON, and starts it.
func (f *Fleet) CreateHunt(ctx context.Context, hunt string) error {
	return f.createHunt(ctx, "hunt.yaml", hunt)
}

func (f *Fleet) createHunt(ctx context.Context, file, hunt string) error {
	gateways := f.Roles("gateway")
	if len(gateways) == 0 {
		return errors.New("lab: a hunt is created through a gateway; want one or more")
	}
	path := filepath.Join(f.Lab.Dir, file)
	if err := os.WriteFile(path, []byte(hunt), 0o644); err != nil {
		return err
	}
	if err := gateways[0].AwaitReady(ctx); err != nil {
		return err
	}
	_, err := f.Cairn(ctx, "hunt", "create", "--admin", "http://"+gateways[0].Admin, path)
	return err
}

// AwaitReady waits until every role that runs says that it is ready.
func (f *Fleet) AwaitReady(ctx context.Context) error {
	for _, r := range f.Roles("") {
		if r.Running() && !r.Paused() {
			if err := r.AwaitReady(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Drain ends all roles in good order, those that make facts before those that
// follow them, so that the ledger has all that was acknowledged. Redis and
// PostgreSQL stay.
func (f *Fleet) Drain(ctx context.Context) error {
	var errs []error
	for _, role := range Roles {
		var stops errgroup.Group
		for _, r := range f.Roles(role) {
			stops.Go(func() error { return r.Stop(ctx) })
		}
		errs = append(errs, stops.Wait())
	}
	return errors.Join(errs...)
}
