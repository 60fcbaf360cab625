package redislog

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// A node is one Redis server: one connection that reads share, and as many
// more as writers lease.
type node struct {
	addr     string
	world    world
	replicas atomic.Int64 // the most it ever had, where there is no Cluster

	mu      sync.Mutex // held while client is made
	client  rueidis.Client
	checked bool // it may hold logs
}

// node returns the node at addr, connected. It is not checked yet.
func (s *Store) node(ctx context.Context, addr string) (*node, error) {
	if addr == "" {
		return nil, errElsewhere
	}
	s.mu.Lock()
	n := s.nodes[addr]
	if n == nil {
		n = &node{addr: addr, world: s.world}
		s.nodes[addr] = n
	}
	s.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.client != nil {
		return n, nil
	}
	if err := errors.Join(ctx.Err(), s.ctx.Err()); err != nil {
		return nil, err
	}
	c, err := s.world.client(s.clientOption(addr))
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, err
	}
	n.client = c
	return n, nil
}

func (s *Store) clientOption(addr string) rueidis.ClientOption {
	o := rueidis.ClientOption{
		InitAddress:         []string{addr},
		ForceSingleClient:   true, // slots are looked up here
		DisableRetry:        true, // R4: what is sent again is decided here
		DisableCache:        true,
		PipelineMultiplex:   -1, // one connection
		BlockingPoolCleanup: time.Minute,
		ClientSetInfo:       rueidis.DisableClientSetInfo,
		Username:            s.target.username,
		Password:            s.target.password,
		SelectDB:            s.target.db,
		ReadBufferEachConn:  64 << 10,
		WriteBufferEachConn: 32 << 10,
		RingScaleEachConn:   8,
		ConnWriteTimeout:    2 * s.opts.ReplyMax,
		DialCtxFn:           s.dial,
	}
	if s.opts.Bell {
		o.OnInvalidations = func(keys []rueidis.RedisMessage) {
			s.bell.hear(keys)
			s.rouse()
		}
	}
	o.Dialer.Timeout = time.Second
	if s.target.tls {
		o.TLSConfig = s.opts.TLS.Clone()
		if o.TLSConfig == nil {
			o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if host, _, err := net.SplitHostPort(addr); err == nil && o.TLSConfig.ServerName == "" {
			o.TLSConfig.ServerName = host
		}
	}
	return o
}

// dial counts the connection.
func (s *Store) dial(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
	var c net.Conn
	var err error
	if cfg != nil {
		c, err = (&tls.Dialer{NetDialer: d, Config: cfg}).DialContext(ctx, "tcp", addr)
	} else {
		c, err = d.DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		return nil, err
	}
	s.conns.Add(1)
	return &countedConn{Conn: c, s: s}, nil
}

type countedConn struct {
	net.Conn
	s    *Store
	once sync.Once
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.once.Do(func() { c.s.conns.Add(-1) })
	return c.Conn.Close()
}

func (s *Store) closeNodes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		n.mu.Lock()
		if n.client != nil {
			n.client.Close()
		}
		n.mu.Unlock()
	}
}

// info returns the reply of INFO, by name, and notes how many replicas n has.
func (n *node) info(ctx context.Context, within time.Duration) (map[string]string, error) {
	ctx, cancel := n.world.within(ctx, within)
	defer cancel()
	text, err := n.client.Do(ctx, n.client.B().Info().Build()).ToString()
	if err != nil {
		return nil, fmt.Errorf("INFO: %w", err)
	}
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[k] = v
		}
	}
	have, _ := strconv.ParseInt(info["connected_slaves"], 10, 64)
	for {
		was := n.replicas.Load()
		if have <= was || n.replicas.CompareAndSwap(was, have) {
			return info, nil
		}
	}
}

// config returns a setting of n.
func (n *node) config(ctx context.Context, within time.Duration, name string) (string, error) {
	ctx, cancel := n.world.within(ctx, within)
	defer cancel()
	m, err := n.client.Do(ctx, n.client.B().ConfigGet().Parameter(name).Build()).AsStrMap()
	if err != nil {
		return "", fmt.Errorf("CONFIG GET %s: %w", name, err)
	}
	return m[name], nil
}

// connect finds out what the target is and checks its primaries.
func (s *Store) connect(ctx context.Context) error {
	given := s.opts
	s.opts.ReplyMax = cmp.Or(given.ReplyMax, time.Second)
	s.opts.ResolveMax = cmp.Or(given.ResolveMax, 2*time.Second)
	var first *node
	var info map[string]string
	var errs []error
	for _, addr := range s.target.addrs {
		n, err := s.node(ctx, addr)
		if err == nil {
			info, err = n.info(ctx, s.opts.ReplyMax)
		}
		if err == nil {
			first = n
			break
		}
		errs = append(errs, err)
	}
	if first == nil {
		return errors.Join(errs...)
	}
	if on := info["cluster_enabled"] == "1"; s.target.cluster && !on {
		return errors.New("not a Cluster: want cluster-enabled yes in redis.conf, or a URL without ?cluster")
	} else if on {
		s.target.cluster = true
		if err := s.clusterTimes(ctx, first, given); err != nil {
			return err
		}
	}
	sets, err := s.meet(ctx)
	if err != nil {
		return err
	}
	if err := s.chooseAck(sets); err != nil {
		return err
	}
	for _, addr := range s.topo.Load().primaries() {
		n, err := s.node(ctx, addr)
		if err == nil {
			err = s.check(ctx, n)
		}
		if err == nil {
			err = s.checkTTL(ctx, n)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
	}
	return s.checkGenesis(ctx)
}

// meet learns who the primaries are and hears each, and reports whether any is
// set to want replicas. While a replica takes over, who is asked first may still
// name a primary that is gone: all are asked again, up to ResolveMax.
func (s *Store) meet(ctx context.Context) (sets bool, err error) {
	within, cancel := s.world.within(ctx, s.opts.ResolveMax)
	defer cancel()
	for b := (backoff{world: s.world}); ; {
		if err = s.look(within, s.topo.Load()); err == nil {
			if sets, err = s.hear(within); err == nil {
				return sets, nil
			}
		}
		if f := fateOf(err); !s.target.cluster || f != unheard && f != elsewhere || b.wait(within) != nil {
			return false, errors.Join(ctx.Err(), err)
		}
	}
}

// hear asks each primary for its state.
func (s *Store) hear(ctx context.Context) (sets bool, err error) {
	for _, addr := range s.topo.Load().primaries() {
		n, err := s.node(ctx, addr)
		if err != nil {
			return false, err
		}
		info, err := n.info(ctx, s.opts.ReplyMax)
		if err != nil {
			return false, fmt.Errorf("%s: %w", addr, err)
		}
		sets = sets || info["min_slaves_good_slaves"] != "" // there only if it is set
	}
	return sets, nil
}

// checkGenesis refuses a Redis without the logs that there were.
func (s *Store) checkGenesis(ctx context.Context) error {
	for _, log := range slices.Sorted(maps.Keys(s.opts.Genesis)) {
		if _, err := s.ends(ctx, log); errors.Is(err, eventlog.ErrMissing) {
			return fmt.Errorf("log %s: %w: this Redis does not have what there was: bring its data back, or begin anew with cairn log reset", log, err)
		} else if err != nil {
			return fmt.Errorf("log %s: %w", log, err)
		}
	}
	return nil
}

// clusterTimes sets what times a failover asks for, where none are given:
// replies so short that a primary that was paused until its replica took over
// is not heard any more, and patience until the replica has taken over.
func (s *Store) clusterTimes(ctx context.Context, n *node, given Options) error {
	if given.ReplyMax != 0 && given.ResolveMax != 0 {
		return nil
	}
	v, err := n.config(ctx, s.opts.ReplyMax, "cluster-node-timeout")
	if err != nil {
		return err
	}
	ms, err := strconv.Atoi(v)
	if err != nil || ms <= 0 {
		return fmt.Errorf("cluster-node-timeout is %.20q", v)
	}
	timeout := time.Duration(ms) * time.Millisecond
	if given.ReplyMax == 0 {
		s.opts.ReplyMax = min(timeout/2, time.Second)
	}
	if given.ResolveMax == 0 {
		s.opts.ResolveMax = min(2*timeout+2*time.Second, 15*time.Second)
	}
	return nil
}

// chooseAck decides on the mode of acknowledgement. That one replica is away
// just now must not make it a weaker one, so AckAuto goes by what there is
// anywhere, and by what the nodes are set to.
func (s *Store) chooseAck(sets bool) error {
	t := s.topo.Load()
	replicated, bare := t.spares || sets, ""
	for _, addr := range t.primaries() {
		if s.replicasOf(s.nodes[addr]) > 0 {
			replicated = true
		} else {
			bare = addr
		}
	}
	s.ack = s.opts.Ack
	switch s.ack {
	case AckAuto:
		if s.ack = AckPrimary; replicated {
			s.ack = AckReplicas
		}
	case AckReplicas:
		if !replicated {
			return errors.New("ack mode replicas: a primary has no replica: add one (REPLICAOF; on a Cluster redis-cli --cluster add-node … --cluster-slave)")
		}
	case AckPrimary, AckFsync:
	default:
		return fmt.Errorf("ack mode %.20q: want primary, replicas or fsync", string(s.ack))
	}
	if s.ack == AckReplicas && bare != "" {
		s.opts.Log.Warn("a primary has no replica: nothing is acknowledged there until it has one", "node", bare)
	}
	return nil
}

// check refuses a node that can't keep the logs' promise. Each error names the
// command that mends it.
func (s *Store) check(ctx context.Context, n *node) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.checked {
		return nil
	}
	info, err := n.info(ctx, s.opts.ReplyMax)
	if err != nil {
		return err
	}
	if err := fit(info); err != nil {
		return unfitError{err}
	}
	if err := s.checkAck(ctx, n); err != nil {
		return err
	}
	if info["aof_enabled"] == "0" {
		s.opts.Log.Warn("no append-only file: a restart of this node loses its logs", "node", n.addr, "mend", "CONFIG SET appendonly yes")
	}
	n.checked = true
	return nil
}

// fit refuses, by the reply of INFO, a server that no log may be on.
func fit(info map[string]string) error {
	major, _, _ := strings.Cut(info["redis_version"], ".")
	if v, _ := strconv.Atoi(major); v < 7 {
		return fmt.Errorf("server is Redis %.20q, want 7.0 or newer: upgrade it", info["redis_version"])
	}
	if p := info["maxmemory_policy"]; p != "noeviction" {
		return fmt.Errorf("maxmemory-policy is %.30q, want noeviction, for an evicted log is a lost one: CONFIG SET maxmemory-policy noeviction", p)
	}
	return nil
}

// checkAck refuses settings that the mode of acknowledgement can't rest on.
func (s *Store) checkAck(ctx context.Context, n *node) error {
	check := func(name string, ok func(string) bool, want, set string) error {
		got, err := n.config(ctx, s.opts.ReplyMax, name)
		if err == nil && !ok(got) {
			err = unfitError{fmt.Errorf("ack mode %s: %s is %.20q, want %s: CONFIG SET %s %s", s.ack, name, got, want, name, set)}
		}
		return err
	}
	is := func(want string) func(string) bool { return func(got string) bool { return got == want } }
	switch s.ack {
	case AckFsync:
		return errors.Join(check("appendonly", is("yes"), "yes", "yes"), check("appendfsync", is("always"), "always", "always"))
	case AckReplicas:
		some := func(got string) bool { return got != "" && got != "0" }
		return check("min-replicas-to-write", some, "1 or more", "1")
	}
	return nil
}

// checkTTL refuses logs that would expire.
func (s *Store) checkTTL(ctx context.Context, n *node) error {
	logs, err := s.scan(ctx, n.client)
	if err != nil {
		return fmt.Errorf("SCAN: %w", err)
	}
	if len(logs) == 0 {
		return nil
	}
	cmds := make(rueidis.Commands, 0, len(logs))
	for _, log := range logs {
		cmds = append(cmds, n.client.B().Pttl().Key(s.key(log)).Build())
	}
	ctx, cancel := s.world.within(ctx, s.opts.ReplyMax)
	defer cancel()
	for i, r := range n.client.DoMulti(ctx, cmds...) {
		if err := s.ttlError(logs[i], r); err != nil {
			return err
		}
	}
	return nil
}

// ttlError says what is wrong with a log, from the reply of its PTTL.
func (s *Store) ttlError(log eventlog.Name, r rueidis.RedisResult) error {
	ms, err := r.AsInt64()
	if err != nil {
		return fmt.Errorf("PTTL: %w", err)
	}
	if ms >= 0 {
		return unfitError{fmt.Errorf("log %s expires in %v, and a log must not: PERSIST %s", log, time.Duration(ms)*time.Millisecond, s.key(log))}
	}
	return nil
}
