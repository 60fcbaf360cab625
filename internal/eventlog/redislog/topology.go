package redislog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A topology is who has which slot. It never changes once it is published.
type topology struct {
	single   string         // the node that has all, where there is no Cluster
	owner    []string       // by slot, "" for nobody
	replicas map[string]int // of each primary, those included that are down
	spares   bool           // there are replicas at all
	minority bool           // who was asked reaches no majority of the primaries
}

// addr returns the primary of a log, or "".
func (t *topology) addr(log eventlog.Name) string {
	if t.owner == nil {
		return t.single
	}
	return t.owner[slotOf(tagOf(log))]
}

// primaries returns the nodes that have slots, sorted.
func (t *topology) primaries() []string {
	if t.owner == nil {
		return []string{t.single}
	}
	var all []string
	for addr := range t.replicas {
		all = append(all, addr)
	}
	slices.Sort(all)
	return all
}

// parseNodes reads the reply of CLUSTER NODES, in which asked may be without
// an address. A line: id addr flags primary ping pong epoch link slot…
// In RESP3 it is a verbatim string, whose first bytes say that it is text, and
// would pass for the beginning of the first id.
func parseNodes(text, asked string) (*topology, error) {
	t := &topology{owner: make([]string, slots), replicas: make(map[string]int)}
	byID := make(map[string]string)
	var of []string // the primary of each replica, by id
	reached := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "txt:")) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		flags := strings.Split(f[2], ",")
		if slices.Contains(flags, "slave") {
			of = append(of, f[3])
			continue
		}
		if len(f) == 8 || slices.Contains(flags, "noaddr") || slices.Contains(flags, "handshake") {
			continue // has no slots
		}
		addr, _, _ := strings.Cut(f[1], "@")
		addr, _, _ = strings.Cut(addr, ",")
		i := strings.LastIndexByte(addr, ':')
		if i < 0 {
			return nil, fmt.Errorf("CLUSTER NODES: address %.60q", f[1])
		}
		host, port := strings.Trim(addr[:i], "[]"), addr[i+1:]
		if host == "" {
			host, _, _ = net.SplitHostPort(asked)
		}
		addr = net.JoinHostPort(host, port)
		if f[7] == "connected" && !slices.Contains(flags, "fail") && !slices.Contains(flags, "fail?") {
			reached++
		}
		byID[f[0]] = addr
		t.replicas[addr] = 0
		for _, r := range f[8:] {
			if strings.HasPrefix(r, "[") {
				continue // a slot that is moving has its owner still
			}
			from, to, ok := strings.Cut(r, "-")
			if !ok {
				to = from
			}
			a, errA := strconv.Atoi(from)
			b, errB := strconv.Atoi(to)
			if errors.Join(errA, errB) != nil || a < 0 || b < a || b >= slots {
				return nil, fmt.Errorf("CLUSTER NODES: slots %.60q", r)
			}
			for i := a; i <= b; i++ {
				t.owner[i] = addr
			}
		}
	}
	for _, id := range of {
		if addr, ok := byID[id]; ok {
			t.replicas[addr]++
		}
	}
	if len(t.replicas) == 0 {
		return nil, errors.New("CLUSTER NODES: no node has a slot (redis-cli --cluster create makes a Cluster)")
	}
	t.spares = len(of) > 0
	t.minority = 2*reached <= len(t.replicas)
	return t, nil
}

// look reads the topology anew, unless another call did while this one waited.
// A node that is cut off from the others, or has just started, may tell what
// was: it is believed only where all are.
func (s *Store) look(ctx context.Context, had *topology) error {
	s.refresh.Lock()
	defer s.refresh.Unlock()
	if t := s.topo.Load(); t != had {
		return nil
	}
	if !s.target.cluster {
		if had == nil {
			s.topo.Store(&topology{single: s.target.addrs[0]})
		}
		return nil
	}
	// Any node knows them all; those that had slots are the likeliest to live.
	var ask []string
	if had != nil {
		ask = had.primaries()
	}
	ask = append(ask, s.target.addrs...)
	var errs []error
	var fallback *topology
	for i, addr := range ask {
		if slices.Contains(ask[:i], addr) {
			continue
		}
		t, err := s.ask(ctx, addr)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", addr, err))
		case t.minority:
			fallback = cmp.Or(fallback, t)
		default:
			s.topo.Store(t)
			return nil
		}
	}
	if fallback != nil {
		s.topo.Store(fallback)
		return nil
	}
	return fmt.Errorf("no node answers: %w", errors.Join(errs...))
}

func (s *Store) ask(ctx context.Context, addr string) (*topology, error) {
	ctx, cancel := s.world.within(ctx, min(s.opts.ReplyMax, 500*time.Millisecond))
	defer cancel()
	n, err := s.node(ctx, addr)
	if err != nil {
		return nil, err
	}
	text, err := n.client.Do(ctx, n.client.B().ClusterNodes().Build()).ToString()
	if err != nil {
		return nil, err
	}
	return parseNodes(text, addr)
}

// keepTopology reads the topology once a second, so that a new replica is
// waited for, until the store closes.
func (s *Store) keepTopology() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		if s.target.cluster {
			if err := s.look(s.ctx, s.topo.Load()); err != nil && s.ctx.Err() == nil {
				s.opts.Log.Warn("can't read the Cluster's topology", "err", err)
			}
			continue
		}
		if n, err := s.node(s.ctx, s.target.addrs[0]); err == nil {
			_, _ = n.info(s.ctx, s.opts.ReplyMax)
		}
	}
}

// replicasOf returns how many replicas of n an append waits for.
func (s *Store) replicasOf(n *node) int {
	need := s.opts.Replicas
	if t := s.topo.Load(); t.owner != nil {
		return max(need, t.replicas[n.addr])
	}
	return max(need, int(n.replicas.Load()))
}
