//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/veltrix/cairn/internal/lab"
)

const (
	lookEvery = 400 * time.Millisecond
	// answerWithin bounds one question, so that what is paused holds up nothing.
	answerWithin = time.Second
)

// A watcher looks at everything, each part by itself: one that hangs shows as
// that, and the rest is as fresh as ever.
type watcher struct {
	fleet *lab.Fleet
	last  atomic.Pointer[status]

	mu      sync.Mutex
	redis   map[*lab.Redis]redisRow
	nodes   []lab.Node
	ledger  postgresRow
	roles   map[*lab.Role]roleRow
	hunts   []huntRow
	trouble string
}

func newWatcher(f *lab.Fleet) *watcher {
	return &watcher{fleet: f, redis: map[*lab.Redis]redisRow{}, roles: map[*lab.Role]roleRow{}}
}

// status returns the last status, nil before the first.
func (w *watcher) status() *status { return w.last.Load() }

// run looks until ctx ends.
func (w *watcher) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	look := func(f func(context.Context)) {
		all.Go(func() {
			tick := time.NewTicker(lookEvery)
			defer tick.Stop()
			for ctx.Err() == nil {
				asked, cancel := context.WithTimeout(ctx, answerWithin)
				f(asked)
				cancel()
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	for _, n := range w.fleet.Redis.Nodes {
		look(func(ctx context.Context) { w.lookRedis(ctx, n) })
	}
	for _, r := range w.fleet.Roles("") {
		seen := new(window)
		look(func(ctx context.Context) { w.lookRole(ctx, r, seen) })
	}
	look(w.lookNodes)
	look(w.lookLedger)
	look(w.lookHunts)
	look(func(context.Context) { w.last.Store(w.gather()) })
}

// rowOf returns what all processes have.
func rowOf(p *lab.Process, addr string) processRow {
	r := processRow{Name: p.Name, Pid: p.Pid(), State: "up", Addr: addr}
	switch {
	case !p.Running():
		r.State = "down"
	case p.Paused():
		r.State = "paused"
	}
	return r
}

func (w *watcher) lookRedis(ctx context.Context, n *lab.Redis) {
	row := redisRow{processRow: rowOf(n.Process, n.Addr), Role: "?"}
	if row.State == "up" {
		info, err := n.Info(ctx)
		if err != nil {
			row.Err = err.Error()
		}
		num := func(name string) int {
			v, _ := strconv.Atoi(info[name]) // 0 where an old server has none
			return v
		}
		row.MemBytes, row.Clients, row.MaxClients, row.OpsPerS = float64(num("used_memory")), num("connected_clients"), num("maxclients"), num("instantaneous_ops_per_sec")
		row.InStep = info["role"] == "master" || info["master_link_status"] == "up" && info["master_sync_in_progress"] == "0"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.redis[n] = row
}

// lookNodes asks the Cluster who is who.
func (w *watcher) lookNodes(ctx context.Context) {
	nodes, err := w.fleet.Redis.Topology(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes, w.trouble = nodes, ""
	if err != nil {
		w.trouble = err.Error()
	}
}

func (w *watcher) lookLedger(ctx context.Context) {
	p := w.fleet.Ledger
	row := postgresRow{processRow: rowOf(p.Process, p.Addr)}
	if row.State == "up" {
		conn, err := pgx.Connect(ctx, p.DSN())
		if err == nil {
			err = conn.QueryRow(ctx, "SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = 'cairn'), (SELECT n_live_tup FROM pg_stat_user_tables WHERE relname = 'entries')").Scan(&row.Connections, &row.Entries)
			conn.Close(ctx)
		}
		if err != nil {
			row.Err = err.Error()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ledger = row
}

func (w *watcher) lookRole(ctx context.Context, r *lab.Role, seen *window) {
	row := roleRow{processRow: rowOf(r.Process, r.Admin), Role: r.Role, Shards: -1, P50: -1, P99: -1, Conns: -1, Starts: r.Starts()}
	if r.Listen != "" {
		row.Play = "http://" + r.Listen + "/"
	}
	switch row.State {
	case "up":
		var why string
		switch row.Ready, why = r.Ready(ctx); {
		case ctx.Err() != nil:
			row.Why = fmt.Sprintf("no answer within %v", answerWithin)
		case !row.Ready || strings.Contains(why, `"ready":false`):
			row.Why = reason(why)
		}
		if families, err := r.Metrics(ctx); err == nil {
			seen.add(sample{time.Now(), families}, row.Starts)
			row.measure(seen)
		}
	default:
		row.Why = row.State
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.roles[r] = row
}

// reason shortens what /readyz says to the checks that fail.
func reason(body string) string {
	var answer struct {
		Checks []struct {
			Name, Detail string
			Ready        bool
		}
	}
	if json.Unmarshal([]byte(body), &answer) != nil {
		return body
	}
	var why []string
	for _, c := range answer.Checks {
		if !c.Ready {
			why = append(why, c.Name+": "+c.Detail)
		}
	}
	return strings.Join(why, "; ")
}

// measure reads what a role measured of its own work.
func (r *roleRow) measure(w *window) {
	now := w.samples[len(w.samples)-1]
	r.MemMB = now.sum("process_resident_memory_bytes") / 1e6
	switch r.Role {
	case "claims":
		r.Shards = int(now.sum("cairn_claim_shards_served"))
		r.PerS = w.rate("cairn_claims_total", "outcome", "won")
		r.P50, r.P99 = w.quantile(0.5, "cairn_claim_duration_seconds"), w.quantile(0.99, "cairn_claim_duration_seconds")
	case "gateway":
		r.Conns = int(now.sum("cairn_broadcast_connections"))
		r.PerS = w.rate("cairn_fleet_claim_duration_seconds")
		r.P50, r.P99 = w.quantile(0.5, "cairn_fleet_claim_duration_seconds"), w.quantile(0.99, "cairn_fleet_claim_duration_seconds")
	case "generator":
		r.PerS = w.rate("cairn_maps_emitted_total")
		r.P50, r.P99 = w.quantile(0.5, "cairn_map_lateness_seconds"), w.quantile(0.99, "cairn_map_lateness_seconds")
	case "leaderboard":
		r.PerS = w.rate("cairn_standings_publishes_total")
		r.P50, r.P99 = w.quantile(0.5, "cairn_standings_lag_seconds"), w.quantile(0.99, "cairn_standings_lag_seconds")
		if lag, ok := now.most("cairn_standings_follower_lag_seconds"); ok {
			r.Lag = fmt.Sprintf("%.0f ms", lag*1000)
		}
	case "rewards":
		r.PerS = w.rate("cairn_ledger_entries_total")
		r.P50, r.P99 = w.quantile(0.5, "cairn_ledger_commit_duration_seconds"), w.quantile(0.99, "cairn_ledger_commit_duration_seconds")
		r.Lag = fmt.Sprintf("%.0f records", now.sum("cairn_ledger_lag_records"))
	}
}

func (w *watcher) lookHunts(ctx context.Context) {
	for _, g := range w.fleet.Roles("gateway") {
		if !g.Running() || g.Paused() {
			continue
		}
		body, err := g.Get(ctx, "/admin/v1/hunts")
		var list struct {
			Hunts []struct {
				Name        string
				State       string
				TilesPerMap int `json:"tiles_per_map"`
				Shards      int
			}
		}
		if err != nil || json.Unmarshal(body, &list) != nil {
			continue
		}
		var hunts []huntRow
		for _, h := range list.Hunts {
			hunts = append(hunts, huntRow{h.Name, h.State, h.TilesPerMap, h.Shards})
		}
		w.mu.Lock()
		w.hunts = hunts
		w.mu.Unlock()
		return
	}
}

// gather makes one status of what was seen last.
func (w *watcher) gather() *status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &status{At: time.Now(), Hunts: w.hunts, Ledger: w.ledger, Trouble: w.trouble}
	names := map[string]string{}
	for _, n := range w.nodes {
		if n.Redis != nil {
			names[n.ID] = n.Name
		}
	}
	for _, n := range w.fleet.Redis.Nodes {
		row, ok := w.redis[n]
		if !ok {
			row = redisRow{processRow: rowOf(n.Process, n.Addr), Role: "?"}
		}
		for _, node := range w.nodes {
			if node.Redis == n {
				row.Role, row.Slots, row.Of = "primary", node.Slots, names[node.Of]
				if !node.Primary {
					row.Role = "replica"
				}
			}
		}
		s.Redis = append(s.Redis, row)
	}
	s.Ledger.LagRecords = -1
	for _, r := range w.fleet.Roles("") {
		row, ok := w.roles[r]
		if !ok {
			row = roleRow{processRow: rowOf(r.Process, r.Admin), Role: r.Role, Shards: -1, P50: -1, P99: -1, Conns: -1}
		}
		if row.Role == "claims" {
			s.ClaimsPerS += row.PerS
		}
		if n, err := strconv.Atoi(strings.TrimSuffix(row.Lag, " records")); err == nil && row.Role == "rewards" && row.State == "up" {
			s.Ledger.LagRecords = max(0, s.Ledger.LagRecords) + n
		}
		s.Roles = append(s.Roles, row)
	}
	return s
}
