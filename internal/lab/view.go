//go:build unix

package lab

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Node is what a Cluster knows of one of its nodes.
type Node struct {
	*Redis         // nil for one that the lab did not start
	ID      string // 40 hexadecimal digits
	Primary bool
	Of      string // of a replica: its primary's ID
	Slots   int    // that it serves
	Failed  bool   // taken for dead, by the one who says so or by all
	Moving  bool   // a slot of it is being moved
}

// Topology returns what the Cluster says of itself: the view of the first node
// that answers and sees a majority, in the order of c.Nodes.
func (c *Cluster) Topology(ctx context.Context) ([]Node, error) {
	var err error
	for _, n := range c.Nodes {
		if !n.Running() || n.Paused() {
			continue
		}
		var v *view
		if v, err = c.view(ctx, n); err == nil && (v.majority || len(c.Nodes) == 1) {
			return v.nodes, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("lab: no node of the Cluster sees a majority")
	}
	return nil, err
}

// Owner returns the primary that has a slot.
func (c *Cluster) Owner(ctx context.Context, slot int) (*Redis, error) {
	for _, n := range c.Nodes {
		if !n.Running() || n.Paused() {
			continue
		}
		v, err := c.view(ctx, n)
		if err != nil || !v.majority {
			continue
		}
		if id := v.owners[slot]; id != "" {
			for _, node := range v.nodes {
				if node.ID == id && node.Redis != nil {
					return node.Redis, nil
				}
			}
		}
	}
	return nil, fmt.Errorf("lab: no node of the Cluster has slot %d", slot)
}

// Primaries returns the nodes that have slots, and Replicas the others, as the
// Cluster sees them now.
func (c *Cluster) Primaries(ctx context.Context) ([]*Redis, error) {
	return c.those(ctx, func(n Node) bool { return n.Primary && n.Slots > 0 })
}

// Replicas returns the replicas of a primary, as the Cluster sees them now.
func (c *Cluster) Replicas(ctx context.Context, primary *Redis) ([]*Redis, error) {
	nodes, err := c.Topology(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(nodes, func(n Node) bool { return n.Redis == primary })
	if i < 0 {
		return nil, fmt.Errorf("lab: the Cluster does not know %s", primary.Name)
	}
	return c.those(ctx, func(n Node) bool { return !n.Primary && n.Of == nodes[i].ID })
}

func (c *Cluster) those(ctx context.Context, are func(Node) bool) ([]*Redis, error) {
	nodes, err := c.Topology(ctx)
	var found []*Redis
	for _, n := range nodes {
		if n.Redis != nil && are(n) {
			found = append(found, n.Redis)
		}
	}
	return found, err
}

// A view is what one node says of its Cluster.
type view struct {
	nodes    []Node
	owners   [slots]string // by slot: the ID of who has it
	unlinked string        // the address of a node that it is not connected to
	majority bool          // it sees most of the primaries
}

// view asks a node what it sees: CLUSTER NODES has a line a node,
//
//	ID host:port@bus flags primary ping pong epoch link slots…
func (c *Cluster) view(ctx context.Context, of *Redis) (*view, error) {
	reply, err := of.Do(ctx, "CLUSTER", "NODES")
	if err != nil {
		return nil, err
	}
	text, err := reply.ToString()
	if err != nil {
		return nil, err
	}
	v := &view{}
	primaries, seen := 0, 0
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 {
			return nil, fmt.Errorf("lab: %s: CLUSTER NODES: %q; want 8 fields or more", of.Name, line)
		}
		flags := strings.Split(f[2], ",")
		addr, _, _ := strings.Cut(f[1], "@")
		n := Node{ID: f[0], Primary: slices.Contains(flags, "master"), Failed: slices.Contains(flags, "fail") || slices.Contains(flags, "fail?")}
		if slices.Contains(flags, "handshake") || slices.Contains(flags, "noaddr") || f[7] != "connected" || n.Failed {
			v.unlinked = addr
		}
		if !n.Primary {
			n.Of = f[3]
		}
		if i := slices.IndexFunc(c.Nodes, func(r *Redis) bool { return r.Addr == addr }); i >= 0 {
			n.Redis = c.Nodes[i]
		}
		v.claim(&n, f[8:])
		if n.Slots > 0 {
			primaries++
			if !n.Failed {
				seen++
			}
		}
		v.nodes = append(v.nodes, n)
	}
	v.majority = 2*seen > primaries
	order := func(n Node) int { return slices.Index(c.Nodes, n.Redis) }
	slices.SortStableFunc(v.nodes, func(a, b Node) int { return order(a) - order(b) })
	return v, nil
}

// claim notes the slots that a node has: 7, 0-5460, and [7->-ID] for one that
// is on its way.
func (v *view) claim(n *Node, ranges []string) {
	for _, r := range ranges {
		if strings.HasPrefix(r, "[") {
			n.Moving = true
			continue
		}
		from, to, isRange := strings.Cut(r, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || first < 0 || last >= slots {
			continue
		}
		for s := first; s <= last; s++ {
			v.owners[s] = n.ID
		}
		n.Slots += last - first + 1
	}
}

// sound returns what is wrong with what a node of a Cluster of n nodes sees.
func (v *view) sound(n int) error {
	switch {
	case len(v.nodes) != n:
		return fmt.Errorf("knows %d nodes; want %d", len(v.nodes), n)
	case v.unlinked != "":
		return fmt.Errorf("is not linked to %s", v.unlinked)
	}
	return nil
}

// covered reports whether each slot has a primary.
func (v *view) covered() bool {
	return !slices.Contains(v.owners[:], "")
}

// summary is the same text for two nodes that agree.
func (v *view) summary() string {
	var lines []string
	for _, n := range v.nodes {
		lines = append(lines, fmt.Sprintln(n.ID, n.Primary, n.Of, n.Slots, n.Moving))
	}
	slices.Sort(lines)
	return strings.Join(lines, "") + strings.Join(v.owners[:], "")
}

// lastLines returns the last lines of an output.
func lastLines(out []byte) []byte {
	all := bytes.Split(bytes.TrimRight(out, "\n"), []byte("\n"))
	return bytes.Join(all[max(0, len(all)-tailLines):], []byte("\n"))
}
