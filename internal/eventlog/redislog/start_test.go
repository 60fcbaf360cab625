package redislog

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
)

// TestRefused: what a server lacks is said when a store opens, with the command
// that mends it; and that command does.
func TestRefused(t *testing.T) {
	node := redistest.Start(t, "--maxclients", "1234")
	prefix := newPrefix()
	key := Key(prefix, "s00")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := mustOpen(t, node.URL(), Options{Prefix: prefix})
	if err := s.Provision(ctx, eventlog.Spec{Name: "s00"}, eventlog.Spec{Name: "maps"}); err != nil {
		t.Fatal(err)
	}
	if n, err := s.MaxClients(ctx); err != nil || n != 1234 {
		t.Errorf("MaxClients: %d, %v, want 1234", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		with string // a command that makes it unfit
		opts Options
		mend string // a command that the error ends with
	}{
		{"evicts", "CONFIG SET maxmemory-policy allkeys-lru", Options{}, "CONFIG SET maxmemory-policy noeviction"},
		{"expires", "PEXPIRE " + key + " 100000", Options{}, "PERSIST " + key},
		{"syncs now and then", "PING", Options{Ack: AckFsync}, "CONFIG SET appendfsync always"},
		{"has no file", "CONFIG SET appendonly no", Options{Ack: AckFsync}, "CONFIG SET appendonly yes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			node.Do(t, strings.Fields(c.with)...)
			c.opts.Prefix = prefix
			s, err := Open(ctx, node.URL(), c.opts)
			if err == nil {
				s.Close()
				t.Fatal("Open: no error")
			}
			if !strings.HasSuffix(err.Error(), c.mend) {
				t.Fatalf("Open: %v, want %s", err, c.mend)
			}
			node.Do(t, strings.Fields(c.mend)...)
			mustOpen(t, node.URL(), c.opts).Close()
		})
	}
}

func TestRefusedForGood(t *testing.T) {
	node := redistest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for name, c := range map[string]struct {
		url  string
		opts Options
		want string
	}{
		"no replica":   {node.URL(), Options{Ack: AckReplicas}, "REPLICAOF"},
		"no Cluster":   {node.URL() + "?cluster", Options{}, "cluster-enabled yes"},
		"unknown mode": {node.URL(), Options{Ack: "most"}, "want primary, replicas or fsync"},
		"bad prefix":   {node.URL(), Options{Prefix: "a:b"}, "prefix"},
		"nobody there": {"redis://127.0.0.1:1", Options{}, "127.0.0.1:1"},
		"another port": {"http://127.0.0.1:1", Options{}, "redis://"},
	} {
		if s, err := Open(ctx, c.url, c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Open: %v, %v, want %s", name, s, err, c.want)
		}
	}
	if err := fit(map[string]string{"redis_version": "6.2.14", "maxmemory_policy": "noeviction"}); err == nil {
		t.Error("Redis 6.2: no error")
	}
	if err := fit(map[string]string{"redis_version": "7.0.0", "maxmemory_policy": "noeviction"}); err != nil {
		t.Errorf("Redis 7.0: %v", err)
	}
}

// TestGenesis: an empty Redis, or another, under a folder that knows a genesis.
func TestGenesis(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	st, err := r.s.Status(r.ctx, "s00")
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{Prefix: r.s.opts.Prefix, Genesis: map[eventlog.Name][16]byte{"s00": st.Genesis}}
	s := mustOpen(t, node.URL(), opts)
	if err := s.Reset(r.ctx); err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		s, err := Open(r.ctx, node.URL(), opts)
		if !errors.Is(err, eventlog.ErrMissing) || !strings.Contains(err.Error(), "cairn log reset") {
			t.Errorf("%s: Open: %v, %v, want ErrMissing and cairn log reset", what, s, err)
		}
	}
	refused("empty")
	if err := s.Provision(r.ctx, eventlog.Spec{Name: "s00"}); err != nil {
		t.Fatalf("Provision after Reset: %v", err)
	}
	refused("another")
	s.Close()
	r.refuse("a", eventlog.ErrMissing)
}

// TestDetails: what an operator sees, a TTL that came later included.
func TestDetails(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	o := r.append("a")
	node.Do(t, "PEXPIRE", r.key(), "100000")
	all, err := r.s.Details(r.ctx)
	if err != nil || len(all) != 1 {
		t.Fatalf("Details: %d logs, %v, want 1", len(all), err)
	}
	d := all[0]
	if d.Name != "s00" || d.Node != node.Addr || d.Entries != 4 || d.Bytes < 100 || d.Last != o || d.Expires <= 0 {
		t.Errorf("Details: %+v, want genesis, seal, fence and %v, and a TTL", d, o)
	}
	if _, err := r.s.Open(r.ctx, "s00"); err == nil || !strings.Contains(err.Error(), "PERSIST") {
		t.Errorf("Open of a log with a TTL: %v, want PERSIST", err)
	}
}

// TestConnections: a store has one connection for all that it reads, and one
// more for each writer.
func TestConnections(t *testing.T) {
	node := redistest.Start(t)
	r := newRig(t, node, node.URL(), quiet)
	var specs []eventlog.Spec
	for i := range 8 {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	if err := r.s.Provision(r.ctx, specs...); err != nil {
		t.Fatal(err)
	}
	for _, spec := range specs[1:] {
		if _, err := r.s.Open(r.ctx, spec.Name); err != nil {
			t.Fatal(err)
		}
		if _, err := r.s.Follow(r.ctx, spec.Name, eventlog.Offset{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.s.Connections(); n < 8 || n > ReadConnections+8 {
		t.Errorf("%d connections, want %d, and one for each of 8 writers", n, ReadConnections)
	}
}
