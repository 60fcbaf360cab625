//go:build unix

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// slots is how many hash slots a Cluster has.
const slots = 16384

// ClusterOptions says what a Cluster is like. The zero value has three
// primaries and no replica.
type ClusterOptions struct {
	Name        string        // of its nodes, which are Name-1 and so on: one of its own for each Cluster of a lab; "" means redis
	Primaries   int           // 0 means 3
	Replicas    int           // of each primary
	NodeTimeout time.Duration // after which a silent node is taken for dead; 0 means 2 s
	MinReplicas int           // in-step replicas without which a primary refuses writes (min-replicas-to-write)
	Settings    []string      // of every node, such as "--appendfsync", "always"; they override
}

// A Cluster is a Redis Cluster.
type Cluster struct {
	Nodes []*Redis // the first primaries first; parts change with each failover

	cli string
}

// StartCluster starts a Redis Cluster whose slots are spread evenly, and waits
// until all of it is in service.
func (l *Lab) StartCluster(ctx context.Context, opts ClusterOptions) (*Cluster, error) {
	opts.Name = cmp.Or(opts.Name, "redis")
	if opts.Primaries == 0 {
		opts.Primaries = 3
	}
	if opts.NodeTimeout == 0 {
		opts.NodeTimeout = 2 * time.Second
	}
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		return nil, errors.New("lab: no redis-cli on the PATH: install it (Debian: apt-get install redis-tools)")
	}
	settings := append([]string{
		"--cluster-enabled", "yes", "--cluster-node-timeout", strconv.FormatInt(opts.NodeTimeout.Milliseconds(), 10),
		// A primary without a successor takes its own slots down, not all.
		"--cluster-require-full-coverage", "no",
		// A replica that comes back is in step as soon as it can.
		"--repl-diskless-sync-delay", "0",
		"--min-replicas-to-write", strconv.Itoa(opts.MinReplicas),
	}, opts.Settings...)
	c := &Cluster{Nodes: make([]*Redis, opts.Primaries*(1+opts.Replicas)), cli: cli}
	starts, startCtx := errgroup.WithContext(ctx)
	for i := range c.Nodes {
		starts.Go(func() (err error) {
			c.Nodes[i], err = l.StartRedis(startCtx, fmt.Sprintf("%s-%d", opts.Name, i+1), settings...)
			return err
		})
	}
	if err := starts.Wait(); err != nil {
		return nil, err
	}
	if err := c.form(ctx, opts.Primaries); err != nil {
		return nil, fmt.Errorf("lab: forming the Cluster: %w", err)
	}
	return c, nil
}

// form makes one Cluster of nodes that know nobody. It does what redis-cli
// --cluster create does, without its pauses, and node n of the primaries has
// the n-th part of the slots.
func (c *Cluster) form(ctx context.Context, primaries int) error {
	ids := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		reply, err := n.Do(ctx, "CLUSTER", "MYID")
		if err == nil {
			ids[i], err = reply.ToString()
		}
		if err != nil {
			return err
		}
		// Each begins with an epoch of its own, so that none has to give way.
		if _, err := n.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
		if i < primaries {
			first, last := i*slots/primaries, (i+1)*slots/primaries-1
			if _, err := n.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)); err != nil {
				return err
			}
		}
	}
	for i, n := range c.Nodes {
		for _, other := range c.Nodes[:i] { // all of them: gossip would take longer
			host, port, _ := strings.Cut(other.Addr, ":")
			if _, err := n.Do(ctx, "CLUSTER", "MEET", host, port); err != nil {
				return err
			}
		}
	}
	if err := c.until(ctx, c.acquainted); err != nil {
		return err
	}
	for i, n := range c.Nodes[primaries:] {
		if _, err := n.Do(ctx, "CLUSTER", "REPLICATE", ids[i%primaries]); err != nil {
			return err
		}
	}
	return c.Settle(ctx)
}

// URL returns the URL of the Cluster, with all its nodes.
func (c *Cluster) URL() string {
	addrs := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		addrs[i] = n.Addr
	}
	return "redis://" + strings.Join(addrs, ",") + "?cluster"
}

// Settle waits until the Cluster is whole: every node answers, all agree who
// has which slots and who follows whom, no slot is without a primary, and each
// replica is in step with its own.
func (c *Cluster) Settle(ctx context.Context) error { return c.until(ctx, c.Whole) }

// acquainted returns what keeps the nodes from knowing each other, or nil.
func (c *Cluster) acquainted(ctx context.Context) error {
	for _, n := range c.Nodes {
		v, err := c.view(ctx, n)
		if err != nil {
			return err
		}
		if err := v.sound(len(c.Nodes)); err != nil {
			return fmt.Errorf("lab: %s: %w", n.Name, err)
		}
	}
	return nil
}

// Whole returns what the Cluster lacks to be whole, as Settle has it, or nil.
func (c *Cluster) Whole(ctx context.Context) error {
	agreed := ""
	for i, n := range c.Nodes {
		v, err := c.view(ctx, n)
		if err != nil {
			return err
		}
		summary := v.summary()
		if i == 0 {
			agreed = summary
		}
		info, err := n.Do(ctx, "CLUSTER", "INFO")
		if err != nil {
			return err
		}
		text, err := info.ToString()
		if err != nil {
			return err
		}
		inStep, err := n.InStep(ctx)
		if err != nil {
			return err
		}
		err = v.sound(len(c.Nodes))
		switch state := fields(text)["cluster_state"]; {
		case err != nil:
			return fmt.Errorf("lab: %s: %w", n.Name, err)
		case !v.covered():
			return fmt.Errorf("lab: %s: some slots have no primary", n.Name)
		case summary != agreed:
			return fmt.Errorf("lab: %s and %s do not agree on the Cluster", c.Nodes[0].Name, n.Name)
		case state != "ok":
			return fmt.Errorf("lab: %s: cluster_state is %q; want ok", n.Name, state)
		case !inStep:
			return fmt.Errorf("lab: %s is not in step with its primary", n.Name)
		}
	}
	return nil
}

// until calls f again and again until it returns nil, or ctx ends.
func (c *Cluster) until(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Failover has a replica take over from its primary, in agreement with it:
// nothing is lost. It returns when the replica has.
func (c *Cluster) Failover(ctx context.Context, replica *Redis) error {
	if _, err := replica.Do(ctx, "CLUSTER", "FAILOVER"); err != nil {
		return err
	}
	return replica.until(ctx, "taken over", func() (bool, error) {
		primary, err := replica.Primary(ctx)
		return primary && err == nil, nil
	})
}

// Reshard moves some slots, with what is in them, from one primary to another,
// while both serve. It returns redis-cli's output when it fails.
func (c *Cluster) Reshard(ctx context.Context, from, to *Redis, slots int) error {
	view, err := c.view(ctx, to)
	if err != nil {
		return err
	}
	ids := map[*Redis]string{}
	for _, n := range view.nodes {
		ids[n.Redis] = n.ID
	}
	out, err := exec.CommandContext(ctx, c.cli, "--cluster", "reshard", to.Addr,
		"--cluster-from", ids[from], "--cluster-to", ids[to], "--cluster-slots", strconv.Itoa(slots), "--cluster-yes").CombinedOutput()
	if err != nil {
		return fmt.Errorf("lab: redis-cli --cluster reshard: %w\n%s", err, lastLines(out))
	}
	return nil
}
