package redisreg

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veltrix/cairn/internal/eventlog/redislog/redistest"
	"github.com/veltrix/cairn/internal/fleet"
)

// primaryOf returns the node that serves the slot of key, or nil, as ask has it.
func primaryOf(t *testing.T, nodes []*redistest.Server, ask *redistest.Server, key string) *redistest.Server {
	t.Helper()
	slot, err := ask.Do(t, "CLUSTER", "KEYSLOT", key).AsInt64()
	if err != nil {
		t.Fatal(err)
	}
	text, err := ask.Do(t, "CLUSTER", "NODES").ToString()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if !strings.Contains(fields[2], "master") || strings.Contains(fields[2], "fail") {
			continue
		}
		addr, _, _ := strings.Cut(fields[1], "@")
		for _, r := range fields[8:] {
			var from, to int64
			if n, _ := fmt.Sscanf(r, "%d-%d", &from, &to); n == 1 {
				to = from
			}
			if from <= slot && slot <= to {
				if i := slices.IndexFunc(nodes, func(s *redistest.Server) bool { return s.Addr == addr }); i >= 0 {
					return nodes[i]
				}
			}
		}
	}
	return nil // none is in service
}

// TestFailover kills the primary that has the leases, and then pauses the one
// that was promoted, while three processes share shards out. Their lease can't
// be renewed until a replica is promoted, and nothing moves: not before, and
// not when some have beaten again and others have not.
func TestFailover(t *testing.T) {
	const shards = 24
	nodes := redistest.StartCluster(t, 3, 2, "--cluster-node-timeout", "1000")
	var parts []*fleet.Partition
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, name := range []string{"a", "b", "c"} {
		r := open(t, nodes[0].URL())
		// Long for a lease, so that a busy machine does not end one by itself.
		p, err := fleet.NewPartition(r, fleet.RoleRewards, shards, fleet.MemberOptions{Name: name, Timing: fleet.Timing{TTL: 2 * time.Second}})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
		wg.Go(func() { _ = p.Run(ctx) })
	}
	shared := func() bool {
		n := 0
		for _, p := range parts {
			n += len(p.Shards())
		}
		return n == shards && !slices.ContainsFunc(parts, func(p *fleet.Partition) bool { return p.Ready() != nil || len(p.Shards()) == shards })
	}
	until(t, "shared out", shared)
	key := "cairn:{fleet}:" + fleet.RoleRewards
	last := nodes[len(nodes)-1]
	look := open(t, nodes[0].URL())
	beating := func() map[string]uint64 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ms, err := look.Members(ctx, fleet.RoleRewards)
		if err != nil {
			return nil
		}
		beats := map[string]uint64{}
		for _, m := range ms {
			beats[m.Name] = m.Beat
		}
		return beats
	}
	for _, fault := range []struct {
		name string
		do   func(*redistest.Server)
	}{{"killed", (*redistest.Server).Kill}, {"paused", (*redistest.Server).Pause}} {
		var changed []<-chan struct{}
		for _, p := range parts {
			changed = append(changed, p.Changed())
		}
		primary := primaryOf(t, nodes, last, key)
		if primary == nil {
			t.Fatal("nobody serves the leases")
		}
		if primary == last {
			last = nodes[len(nodes)-2]
		}
		fault.do(primary)
		until(t, "served by another primary", func() bool {
			now := primaryOf(t, nodes, last, key)
			return now != nil && now != primary
		})
		before := beating()
		until(t, "all renewed since", func() bool {
			now := beating()
			if before == nil {
				before = now
			}
			n := 0
			for name, beat := range now {
				if beat > before[name] {
					n++
				}
			}
			return n == len(parts)
		})
		for i, c := range changed {
			select {
			case <-c:
				t.Errorf("%s: %s has other shards than before: %v", fault.name, []string{"a", "b", "c"}[i], parts[i].Shards())
			default:
			}
		}
		if !shared() {
			t.Errorf("%s: the shards are not shared out any more", fault.name)
		}
		if fault.name == "paused" {
			primary.Continue()
		}
	}
}
