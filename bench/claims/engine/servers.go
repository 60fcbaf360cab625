//go:build unix

package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/veltrix/cairn/bench/claims/peer"
	"github.com/veltrix/cairn/bench/claims/world"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
	"github.com/veltrix/cairn/internal/lab"
)

// A bench has the servers, each started when it is first needed.
type bench struct {
	lab      *lab.Lab
	shards   int // of ours
	redises  map[string]*lab.Redis
	clusters map[string]*lab.Cluster
	pg       *lab.Postgres
	tuned    map[string]Tried // by contender: what the sweep found
}

// redis returns a server by name. Its settings are always the same.
func (b *bench) redis(ctx context.Context, name string, settings ...string) (*lab.Redis, error) {
	if r := b.redises[name]; r != nil {
		return r, nil
	}
	r, err := b.lab.StartRedis(ctx, name, settings...)
	if err == nil {
		b.redises[name] = r
	}
	return r, err
}

// cluster returns a Cluster by name. It is always the same.
func (b *bench) cluster(ctx context.Context, name string, opts lab.ClusterOptions) (*lab.Cluster, error) {
	if c := b.clusters[name]; c != nil {
		return c, nil
	}
	opts.Name = name
	c, err := b.lab.StartCluster(ctx, opts)
	if err == nil {
		b.clusters[name] = c
	}
	return c, err
}

func (b *bench) postgres(ctx context.Context) (*lab.Postgres, error) {
	if b.pg != nil {
		return b.pg, nil
	}
	p, err := b.lab.StartPostgres(ctx, "postgres", lab.PostgresOptions{Durable: true, Settings: peer.PostgresSettings})
	if err == nil {
		b.pg = p
	}
	return p, err
}

// oursOn starts the claim service on empty servers, which are emptied again
// when it is closed.
func (b *bench) oursOn(ctx context.Context, s *scene, n int, url string, ack redislog.Ack, primaries ...*lab.Redis) (system, error) {
	if err := empty(ctx, primaries); err != nil {
		return nil, err
	}
	x, err := openOurs(ctx, s, n, world.Options{Redis: url, Ack: ack, Shards: b.shards}, "")
	if err != nil {
		return nil, err
	}
	return &borrowed{x, primaries}, nil
}

// borrowed is ours on servers that others use afterwards.
type borrowed struct {
	*ours
	primaries []*lab.Redis
}

func (x *borrowed) close() error {
	return errors.Join(x.ours.close(), empty(context.Background(), x.primaries))
}

func empty(ctx context.Context, primaries []*lab.Redis) error {
	for _, r := range primaries {
		if _, err := r.Do(ctx, "FLUSHALL", "SYNC"); err != nil {
			return err
		}
	}
	return nil
}

// inStep waits until a replica has all of its primary's data.
func inStep(ctx context.Context, replica *lab.Redis) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if ok, err := replica.InStep(ctx); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not in step with its primary: %w", replica.Name, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// split returns the host and the port of a server's address.
func split(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err) // the lab's addresses are host:port
	}
	return host, port
}
