// Package redislog keeps fenced logs in Redis Streams, on a single node or on
// a Cluster (docs/redislog.md). It uses plain commands only: no script, no
// function, and one key a transaction.
//
// Redis refuses an XADD whose id is not above the stream's last. That is a
// fence, and not a compare-and-set: it notices no missing key, no gap and no
// fork. So a writer here never creates a stream, looks at what stands before
// the record it has just written, and takes no answer for granted that it did
// not hear.
package redislog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// An Ack says when an append is acknowledged (docs/redislog.md has what each
// promises). Volatile logs are acknowledged as [AckPrimary].
type Ack string

// The modes of acknowledgement.
const (
	AckAuto     Ack = ""         // AckReplicas where there are replicas, or min-replicas-to-write is set, else AckPrimary
	AckPrimary  Ack = "primary"  // the primary has it in memory: a failover can lose it
	AckReplicas Ack = "replicas" // the primary and every replica that may be promoted have it in memory
	AckFsync    Ack = "fsync"    // the primary has it on disk: wants appendonly yes and appendfsync always
)

// Options tunes a Store. The zero value is ready for production.
type Options struct {
	Ack Ack // AckAuto if empty; Store.Ack says what it came to

	// Replicas is how many replicas a primary has at least, for AckReplicas:
	// an append waits for as many even where Redis knows of fewer. 0 means as
	// many as Redis knows, those that are down included, and at least one; on a
	// single node as many as it ever had while the store is open.
	Replicas int

	Cluster bool   // the URL is of a Cluster; else that is found out
	Prefix  string // the first part of every key, a name like a log's; empty means "cairn"

	// ReplyMax is how long a command may take: a slower reply counts as none,
	// and the outcome as unknown. 0 means half of cluster-node-timeout on a
	// Cluster, at most 1 s, and 1 s on a single node.
	ReplyMax time.Duration

	// ResolveMax is how long a writer tries to learn what came of an append
	// before it gives up with ErrUnknown. Reads are tried again for as long. 0
	// means 2 s, and on a Cluster as long as a failover may take: twice
	// cluster-node-timeout and 2 s more, at most 15 s.
	ResolveMax time.Duration

	// Genesis is the genesis of each log that is known from before, as
	// [eventlog.Status] has it. Open refuses a Redis that lacks such a log or
	// has another.
	Genesis map[eventlog.Name][16]byte

	MarkAfter time.Duration // how long a writer is idle before it appends a durable mark; 0 means 50 ms
	PollEvery time.Duration // how often followers look for records, of a log that is quiet a fourth as often; 0 means 5 ms

	// Bell has Redis tell when a quiet log was written, so that it is read at
	// once, and polled no more often than it is compared. It is for those who
	// follow much and append little: a writer's connection is slower with it.
	Bell bool

	// RingBytesMax bounds the newest records of each log that are kept in
	// memory for followers at the tail; 0 means 1 MiB. The newest is always kept.
	RingBytesMax int

	TLS     *tls.Config           // for rediss://; nil means the system's roots
	Log     *slog.Logger          // nil means discard
	Metrics prometheus.Registerer // nil means unregistered
}

func (o Options) withDefaults() Options {
	if o.Prefix == "" {
		o.Prefix = "cairn"
	}
	if o.MarkAfter == 0 {
		o.MarkAfter = 50 * time.Millisecond
	}
	if o.PollEvery == 0 {
		o.PollEvery = 5 * time.Millisecond
	}
	if o.RingBytesMax == 0 {
		o.RingBytesMax = 1 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// A Store is the logs of one Redis or Cluster under one prefix. It implements
// [eventlog.Store]. Any number of stores may be open at once, in any number of
// processes.
type Store struct {
	// Static after Open.
	opts    Options
	target  target
	world   world
	broken  rule // none but in tests
	ack     Ack
	metrics *metrics
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	conns   atomic.Int64
	bell    bell
	wake    chan struct{} // holds one: the poll is to look at who rang, or is new
	untold  sync.Once     // that bells can't be armed

	topo    atomic.Pointer[topology]
	refresh sync.Mutex // held while the topology is read

	mu      sync.Mutex
	nodes   map[string]*node // by address
	pins    map[eventlog.Name][16]byte
	writers map[*writer]struct{}
	feeds   map[eventlog.Name]*feed
	closed  bool
	inside  sync.WaitGroup // goroutines of the store; Add under mu
}

var _ eventlog.Store = (*Store)(nil)

// Open connects to url, which is redis://[user[:password]@]host:port[,host:port…][/db][?cluster]
// or the same with rediss:// for TLS, and checks what the logs need of every
// primary: Redis 7.0, maxmemory-policy noeviction, what the mode of
// acknowledgement rests on, that no log has a TTL, and that the logs are those
// that Options.Genesis knows. An error names the command that mends it.
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	s, err := newStore(ctx, url, opts, realWorld{})
	if err != nil {
		return nil, err
	}
	s.inside.Go(s.poll)
	s.inside.Go(s.keepTopology)
	return s, nil
}

// newStore connects and checks, and starts nothing.
func newStore(ctx context.Context, url string, opts Options, w world) (*Store, error) {
	opts = opts.withDefaults()
	if err := eventlog.ValidName(eventlog.Name(opts.Prefix)); err != nil {
		return nil, fmt.Errorf("redislog: prefix: %w", err)
	}
	t, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	t.cluster = t.cluster || opts.Cluster
	s := &Store{
		opts:    opts,
		target:  t,
		world:   w,
		nodes:   make(map[string]*node),
		pins:    make(map[eventlog.Name][16]byte),
		writers: make(map[*writer]struct{}),
		feeds:   make(map[eventlog.Name]*feed),
		wake:    make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.metrics = newMetrics(&s.conns)
	maps.Copy(s.pins, opts.Genesis)
	if err := s.connect(ctx); err != nil {
		s.cancel()
		s.closeNodes()
		return nil, fmt.Errorf("redislog: %s: %w", t.name(), err)
	}
	s.metrics.register(opts.Metrics)
	return s, nil
}

// Ack returns the mode in which appends to durable logs are acknowledged.
func (s *Store) Ack() Ack { return s.ack }

// Connections returns how many connections the store has open, see
// [ReadConnections].
func (s *Store) Connections() int { return int(s.conns.Load()) }

// Close implements [eventlog.Store]. Writers that are open append their last
// durable mark.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var open []*writer
	for w := range s.writers {
		open = append(open, w)
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, w := range open {
		wg.Go(func() { _ = w.Close() })
	}
	wg.Wait()
	s.cancel()
	s.inside.Wait()
	s.closeNodes()
	s.metrics.unregister(s.opts.Metrics)
	return nil
}

// Key returns the key of a log under a prefix, see [Options]. It never changes.
func Key(prefix string, log eventlog.Name) string { return prefix + ":{" + tagOf(log) + "}:log" }

// key returns the key of a log. All that belongs to a log is in it.
func (s *Store) key(log eventlog.Name) string { return Key(s.opts.Prefix, log) }

// logOf returns the log whose key it is.
func (s *Store) logOf(key string) (eventlog.Name, bool) {
	tag, _ := strings.CutPrefix(key, s.opts.Prefix+":{")
	tag, _ = strings.CutSuffix(tag, "}:log")
	name, _, _ := strings.Cut(tag, ".")
	log := eventlog.Name(name)
	return log, eventlog.ValidName(log) == nil && s.key(log) == key
}

// enter checks what every call does: the store is open, ctx goes on, and the
// name is one.
func (s *Store) enter(ctx context.Context, log eventlog.Name) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return fmt.Errorf("redislog: %w", eventlog.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return s.errorf(log, "%w", err)
	}
	if eventlog.ValidName(log) != nil {
		return s.errorf(log, "%w", eventlog.ErrMissing)
	}
	return nil
}

// pin remembers the genesis of a log, and returns ErrMissing if it was another
// before: then the stream is not the one that was.
func (s *Store) pin(log eventlog.Name, genesis [16]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	had, ok := s.pins[log]
	if !ok {
		s.pins[log] = genesis
	} else if had != genesis && s.keeps(ruleGenesis) {
		return fmt.Errorf("%w: genesis is %x, was %x", eventlog.ErrMissing, genesis, had)
	}
	return nil
}

// Logs implements [eventlog.Store].
func (s *Store) Logs(ctx context.Context) ([]eventlog.Name, error) {
	if err := s.enter(ctx, "logs"); err != nil {
		return nil, err
	}
	var names []eventlog.Name
	for _, addr := range s.topo.Load().primaries() {
		n, err := s.node(ctx, addr)
		if err != nil {
			return nil, fmt.Errorf("redislog: logs: %w", err)
		}
		some, err := s.scan(ctx, n.client)
		if err != nil {
			return nil, fmt.Errorf("redislog: logs: %s: %w", addr, err)
		}
		names = append(names, some...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil // SCAN may name a key twice
}

func (s *Store) scan(ctx context.Context, c rueidis.Client) (names []eventlog.Name, err error) {
	ctx, cancel := s.world.within(ctx, s.opts.ResolveMax)
	defer cancel()
	for cursor := uint64(0); ; {
		e, err := c.Do(ctx, c.B().Scan().Cursor(cursor).Match(s.opts.Prefix+":{*}:log").Count(1000).Type("stream").Build()).AsScanEntry()
		if err != nil {
			return nil, err
		}
		for _, key := range e.Elements {
			if name, ok := s.logOf(key); ok {
				names = append(names, name)
			}
		}
		if cursor = e.Cursor; cursor == 0 {
			return names, nil
		}
	}
}

func (s *Store) errorf(log eventlog.Name, format string, args ...any) error {
	return fmt.Errorf("redislog: log %.40q: %w", string(log), fmt.Errorf(format, args...))
}

// backoff waits a little longer each time, until ctx ends.
type backoff struct {
	world world
	next  time.Duration
}

func (b *backoff) wait(ctx context.Context) error {
	b.next = min(max(2*b.next, 2*time.Millisecond), 100*time.Millisecond)
	return b.world.sleep(ctx, b.next)
}

// errElsewhere: no node is known to have the log's slot.
var errElsewhere = errors.New("no node has this slot")
