//go:build unix

package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestCluster: a Cluster says who is who, and keeps what it has through kill
// -9, a pause, a failover and a reshard.
func TestCluster(t *testing.T) {
	ctx := t.Context()
	l := newLab(t)
	c, err := l.StartCluster(ctx, ClusterOptions{Replicas: 1, NodeTimeout: time.Second})
	must(t, err)
	primaries, err := c.Primaries(ctx)
	must(t, err)
	if !slices.Equal(primaries, c.Nodes[:3]) {
		t.Fatalf("%d primaries; want the first 3 nodes", len(primaries))
	}
	// Slot 12182 is that of foo (redis.io/commands/cluster-keyslot): the third's.
	owner, err := c.Owner(ctx, 12182)
	must(t, err)
	if owner != c.Nodes[2] {
		t.Fatalf("slot 12182 is %s's; want redis-3's", owner.Name)
	}
	_, err = owner.Do(ctx, "SET", "foo", "kept")
	must(t, err)
	_, err = owner.Do(ctx, "WAIT", "1", "0")
	must(t, err)

	must(t, owner.Kill())
	if owner.Running() || owner.Pid() != 0 || c.Whole(ctx) == nil {
		t.Error("a killed node runs, or the Cluster is said to be whole without it")
	}
	heir := eventuallyOwner(t, c, 12182, func(r *Redis) bool { return r != owner })
	wantFoo(t, heir)
	must(t, owner.Restart(ctx))
	must(t, c.Settle(ctx))
	if replicas, err := c.Replicas(ctx, heir); err != nil || !slices.Equal(replicas, []*Redis{owner}) {
		t.Errorf("the replicas of %s: %d (%v); want %s, which it took over from", heir.Name, len(replicas), err, owner.Name)
	}

	must(t, c.Failover(ctx, owner)) // gives it back
	must(t, c.Settle(ctx))
	wantFoo(t, owner)

	// A Redis 7.0 replica that takes over again while its last election still
	// counts wins by the old votes, at the old epoch, and nobody follows it.
	time.Sleep(2 * time.Second) // cluster-node-timeout × 2
	must(t, owner.Pause())
	if !owner.Paused() || !owner.Running() {
		t.Error("a paused node is not said to be so")
	}
	eventuallyOwner(t, c, 12182, func(r *Redis) bool { return r == heir })
	must(t, owner.Continue())
	must(t, c.Settle(ctx))

	to := c.Nodes[0]
	must(t, c.Reshard(ctx, heir, to, 5462)) // all that it has
	must(t, c.Settle(ctx))
	eventuallyOwner(t, c, 12182, func(r *Redis) bool { return r == to })
	wantFoo(t, to)
}

// eventuallyOwner waits until a slot has an owner as wanted.
func eventuallyOwner(t *testing.T, c *Cluster, slot int, wanted func(*Redis) bool) *Redis {
	t.Helper()
	var owner *Redis
	must(t, c.until(t.Context(), func(ctx context.Context) (err error) {
		if owner, err = c.Owner(ctx, slot); err == nil && !wanted(owner) {
			err = fmt.Errorf("slot %d is %s's still", slot, owner.Name)
		}
		return err
	}))
	return owner
}

func wantFoo(t *testing.T, r *Redis) {
	t.Helper()
	reply, err := r.Do(t.Context(), "GET", "foo")
	must(t, err)
	if v, err := reply.ToString(); v != "kept" {
		t.Errorf("foo on %s is %q (%v); want kept", r.Name, v, err)
	}
}

// TestRestart: a server that is killed is the same one afterwards, and a
// Cluster that has lost a node for good is known to.
func TestRestart(t *testing.T) {
	ctx := t.Context()
	l := newLab(t)
	r, err := l.StartRedis(ctx, "redis", "--appendfsync", "always")
	must(t, err)
	_, err = r.Do(ctx, "SET", "foo", "kept")
	must(t, err)
	pid := r.Pid()
	must(t, r.Restart(ctx))
	wantFoo(t, r)
	if r.Pid() == pid || r.Starts() != 2 {
		t.Errorf("pid %d, %d starts; want another than %d, and 2", r.Pid(), r.Starts(), pid)
	}
	must(t, r.Stop(ctx))
	must(t, r.Wait(ctx))
	if _, err := r.Do(ctx, "PING"); err == nil {
		t.Error("a stopped server answers")
	}
	if err := errors.Join(r.Kill(), r.Pause(), r.Continue(), r.Stop(ctx)); err != nil {
		t.Errorf("what has ended is left so: %v", err)
	}
}
