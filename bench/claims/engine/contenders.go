//go:build unix

package engine

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/veltrix/cairn/bench/claims/peer"
	"github.com/veltrix/cairn/bench/claims/world"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
	"github.com/veltrix/cairn/internal/lab"
)

// Names of contenders that others refer to.
const (
	OursRedis = "ours-redis"
	Lua       = "lua"
	Postgres  = "postgres"
)

// A contender is a system, and how it is driven: with as many callers and
// batches of the size that it was fastest with on two cores.
type contender struct {
	name    string
	what    string // for the table
	callers int
	size    int
	most    float64 // attempts a second, above what it can: maps are made for as many, and not for more
	extra   bool    // measured only when all is
	open    func(ctx context.Context, b *bench, s *scene, n int) (system, error)
}

// shardsOfOurs is how many ours has on a machine of two cores: more of them make
// smaller records, and with less some core has nothing to do.
const shardsOfOurs = 4

// contenders are all systems. What is kept is in memory on Redis, without an
// append-only file, in every form but those that say otherwise: so ours and
// peers promise the same.
var contenders = []contender{
	{
		name: OursRedis, what: "one Redis", callers: 8, size: 1024, most: 5e6,
		open: onRedis("redis", redislog.AckPrimary, "--appendonly", "no"),
	},
	{
		name: "ours-filelog", what: "a folder, synced to disk", callers: 8, size: 1024, most: 25e5,
		open: func(ctx context.Context, b *bench, s *scene, n int) (system, error) {
			dir, err := os.MkdirTemp(b.lab.Dir, "filelog-")
			if err != nil {
				return nil, err
			}
			return openOurs(ctx, s, n, world.Options{Shards: b.shards}, dir)
		},
	},
	{
		name: "ours-cluster", what: "a Cluster of 3 primaries", callers: 8, size: 1024, most: 5e6,
		open: onCluster("cluster", redislog.AckPrimary, lab.ClusterOptions{Settings: []string{"--appendonly", "no"}}),
	},
	{
		name: "ours-redis-replicas", what: "and its replica has it", callers: 8, size: 1024, most: 5e6, extra: true,
		open: func(ctx context.Context, b *bench, s *scene, n int) (system, error) {
			primary, err := b.redis(ctx, "redis-replicated", "--appendonly", "no", "--min-replicas-to-write", "1")
			if err != nil {
				return nil, err
			}
			host, port := split(primary.Addr)
			replica, err := b.redis(ctx, "redis-replica", "--appendonly", "no", "--replicaof", host, port, "--repl-diskless-sync-delay", "0")
			if err != nil {
				return nil, err
			}
			if err := inStep(ctx, replica); err != nil {
				return nil, err
			}
			return b.oursOn(ctx, s, n, primary.URL(), redislog.AckReplicas, primary)
		},
	},
	{
		name: "ours-redis-fsync", what: "and its disk has it", callers: 8, size: 1024, most: 5e6, extra: true,
		open: onRedis("redis-fsync", redislog.AckFsync, "--appendonly", "yes", "--appendfsync", "always"),
	},
	{
		name: "ours-cluster-replicas", what: "a Cluster, and the replicas have it", callers: 8, size: 1024, most: 5e6, extra: true,
		open: onCluster("cluster-replicated", redislog.AckReplicas, lab.ClusterOptions{Replicas: 1, MinReplicas: 1, Settings: []string{"--appendonly", "no"}}),
	},
	{name: Lua, what: "EVALSHA: HSETNX, XADD", callers: 32, size: 32, most: 5e5, open: peerOn("redis", peer.OpenLua, "--appendonly", "no")},
	{name: "function", what: "the same, FCALL", callers: 32, size: 32, most: 5e5, open: peerOn("redis", peer.OpenFunction, "--appendonly", "no")},
	{name: "multi", what: "HSETNX, then XADD", callers: 4, size: 1024, most: 5e5, open: peerOn("redis", peer.OpenMulti, "--appendonly", "no")},
	{
		name: "lua-batched", what: "one EVALSHA for all of a batch on a map", callers: 8, size: 512, most: 1e6, extra: true,
		open: peerOn("redis", peer.OpenLuaBatched, "--appendonly", "no"),
	},
	{
		name: "lua-fsync", what: "lua, and the disk has it", callers: 16, size: 128, most: 5e5, extra: true,
		open: peerOn("redis-fsync", peer.OpenLua, "--appendonly", "yes", "--appendfsync", "always"),
	},
	{name: Postgres, what: "UPDATE … WHERE holder IS NULL", callers: 16, size: 16, most: 4e4, open: onPostgres(peer.IfFree, false)},
	{name: "postgres-for-update", what: "SELECT … FOR UPDATE, UPDATE", callers: 16, size: 16, most: 4e4, extra: true, open: onPostgres(peer.ForUpdate, false)},
	{name: "postgres-serializable", what: "at SERIALIZABLE, with retries", callers: 16, size: 16, most: 4e4, extra: true, open: onPostgres(peer.Serializable, false)},
	{name: "postgres-together", what: "a batch a transaction", callers: 8, size: 64, most: 1e5, extra: true, open: onPostgres(peer.IfFree, true)},
}

// Names returns the names of all contenders, or of those that are always
// measured.
func Names(all bool) []string {
	var names []string
	for _, c := range contenders {
		if all || !c.extra {
			names = append(names, c.name)
		}
	}
	return names
}

func contenderOf(name string) (*contender, error) {
	i := slices.IndexFunc(contenders, func(c contender) bool { return c.name == name })
	if i < 0 {
		return nil, fmt.Errorf("contender %q: want one of %v", name, Names(true))
	}
	return &contenders[i], nil
}

func onRedis(server string, ack redislog.Ack, settings ...string) func(context.Context, *bench, *scene, int) (system, error) {
	return func(ctx context.Context, b *bench, s *scene, n int) (system, error) {
		r, err := b.redis(ctx, server, settings...)
		if err != nil {
			return nil, err
		}
		return b.oursOn(ctx, s, n, r.URL(), ack, r)
	}
}

func onCluster(name string, ack redislog.Ack, opts lab.ClusterOptions) func(context.Context, *bench, *scene, int) (system, error) {
	return func(ctx context.Context, b *bench, s *scene, n int) (system, error) {
		c, err := b.cluster(ctx, name, opts)
		if err != nil {
			return nil, err
		}
		primaries := c.Nodes[:3]
		return b.oursOn(ctx, s, n, c.URL(), ack, primaries...)
	}
}

func peerOn(server string, open func(context.Context, string, peer.RedisOptions) (peer.Claimer, error), settings ...string) func(context.Context, *bench, *scene, int) (system, error) {
	return func(ctx context.Context, b *bench, s *scene, n int) (system, error) {
		r, err := b.redis(ctx, server, settings...)
		if err != nil {
			return nil, err
		}
		c, err := open(ctx, r.Addr, peer.RedisOptions{})
		if err != nil {
			return nil, err
		}
		return openRival(ctx, s, n, c, nil)
	}
}

func onPostgres(locking peer.Locking, together bool) func(context.Context, *bench, *scene, int) (system, error) {
	return func(ctx context.Context, b *bench, s *scene, n int) (system, error) {
		p, err := b.postgres(ctx)
		if err != nil {
			return nil, err
		}
		c, err := peer.OpenPostgres(ctx, p.DSN(), locking, peer.PostgresOptions{Together: together})
		if err != nil {
			return nil, err
		}
		// What is left to be written is written now, not while another is measured.
		return openRival(ctx, s, n, c, func() error { return p.Exec(context.Background(), "CHECKPOINT") })
	}
}
