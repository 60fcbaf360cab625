// Package redisreg keeps the members of a fleet in Redis, with plain commands
// and all keys in one slot:
//
//	cairn:{fleet}:claims        a set: the names there ever were, of one role
//	cairn:{fleet}:claims:NAME   a member as JSON, with the lease as its TTL
//
// Redis judges the leases by its own clock. Losing all of it, in a failover or
// for good, costs nothing but the time until all have beaten again.
package redisreg

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/fleet"
)

// Connections is how many connections to Redis a Registry has, for the budget
// of its process: one to the node that has the leases, and on a Cluster one
// more while the slots are looked up.
const Connections = 2

// forgetAfter is how long a name is kept whose lease has ended.
const forgetAfter = time.Minute

// Options tunes a Registry. The zero value is ready for production.
type Options struct {
	Prefix string      // the first part of every key; empty means "cairn"
	TLS    *tls.Config // for rediss://; nil means the system's roots
}

// A Registry is a [fleet.Registry] in Redis. Its methods may be called
// concurrently.
type Registry struct {
	client rueidis.Client
	prefix string
	last   sync.Map // by role: the names that it had, sorted

	mu   sync.Mutex
	lack map[string]time.Time // names without a lease, by role and name, and since when
}

var _ fleet.Registry = (*Registry)(nil)

// Open connects to the Redis or Cluster at url, which is as redislog has it:
// redis://[user[:password]@]host:port[,host:port…][/db][?cluster], or rediss://.
func Open(rawURL string, opts Options) (*Registry, error) {
	o, err := clientOption(rawURL, opts.TLS)
	if err != nil {
		return nil, err
	}
	c, err := rueidis.NewClient(o)
	if err != nil {
		return nil, fmt.Errorf("redisreg: %s: %w", strings.Join(o.InitAddress, ","), err)
	}
	if opts.Prefix == "" {
		opts.Prefix = "cairn"
	}
	return &Registry{client: c, prefix: opts.Prefix, lack: map[string]time.Time{}}, nil
}

// clientOption never repeats the URL in an error, for there may be a password
// in it.
func clientOption(rawURL string, cfg *tls.Config) (rueidis.ClientOption, error) {
	bad := errors.New("redisreg: URL: want redis://[user[:password]@]host:port[,host:port][/db][?cluster], or rediss://")
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok || scheme != "redis" && scheme != "rediss" {
		return rueidis.ClientOption{}, bad
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user, hosts := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, hosts = authority[:i+1], authority[i+1:]
	}
	// A URL has one host; the list is taken apart by hand.
	u, err := url.Parse(scheme + "://" + user + "host" + tail)
	if err != nil || hosts == "" {
		return rueidis.ClientOption{}, bad
	}
	o := rueidis.ClientOption{
		Username: u.User.Username(), DisableCache: true, AlwaysPipelining: true, PipelineMultiplex: -1,
		ClientSetInfo:      rueidis.DisableClientSetInfo,
		ReadBufferEachConn: 16 << 10, WriteBufferEachConn: 16 << 10, RingScaleEachConn: 6,
		// A node that hangs must not hold back what another would answer.
		ConnWriteTimeout: time.Second,
		Dialer:           net.Dialer{Timeout: 500 * time.Millisecond, KeepAlive: time.Second},
	}
	o.Password, _ = u.User.Password()
	for _, h := range strings.Split(hosts, ",") {
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), "6379")
		}
		o.InitAddress = append(o.InitAddress, h)
	}
	if db := strings.Trim(u.Path, "/"); db != "" {
		if o.SelectDB, err = strconv.Atoi(db); err != nil || o.SelectDB < 0 {
			return rueidis.ClientOption{}, bad
		}
	}
	if scheme == "rediss" {
		if o.TLSConfig = cfg.Clone(); o.TLSConfig == nil {
			o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	return o, nil
}

// Close ends the connections.
func (r *Registry) Close() { r.client.Close() }

func (r *Registry) names(role string) string       { return r.prefix + ":{fleet}:" + role }
func (r *Registry) lease(role, name string) string { return r.names(role) + ":" + name }

// Beat implements [fleet.Registry].
func (r *Registry) Beat(ctx context.Context, role string, m fleet.Member, ttl time.Duration) (renewed bool, err error) {
	body, err := json.Marshal(m)
	if err != nil {
		return false, err
	}
	b := r.client.B
	replies := r.client.DoMulti(ctx,
		b().Set().Key(r.lease(role, m.Name)).Value(string(body)).Get().PxMilliseconds(ttl.Milliseconds()).Build(),
		b().Sadd().Key(r.names(role)).Member(m.Name).Build(), // each time: Redis may have lost it
	)
	err = replies[0].Error() // nil stands for no lease before
	renewed = err == nil
	if rueidis.IsRedisNil(err) {
		err = nil
	}
	if err == nil {
		err = replies[1].Error()
	}
	if err != nil {
		return false, fmt.Errorf("redisreg: beat: %w", err)
	}
	return renewed, nil
}

// Members implements [fleet.Registry].
func (r *Registry) Members(ctx context.Context, role string) ([]fleet.Member, error) {
	names, replies, err := r.leases(ctx, role)
	if err != nil {
		return nil, fmt.Errorf("redisreg: members: %w", err)
	}
	var ms []fleet.Member
	var without []string
	for i, reply := range replies {
		body, err := reply.AsBytes()
		if rueidis.IsRedisNil(err) {
			without = append(without, names[i])
			continue
		}
		var m fleet.Member
		if err == nil {
			err = json.Unmarshal(body, &m)
		}
		if err != nil || m.Name != names[i] {
			return nil, fmt.Errorf("redisreg: %s: is %.80q (%w)", r.lease(role, names[i]), body, err)
		}
		ms = append(ms, m)
	}
	return ms, r.forget(ctx, role, without)
}

// leases returns the names that a role has, and the lease of each. A fleet
// changes seldom: the leases of the names of the last time are asked for along
// with the names, so that it mostly takes one round trip.
func (r *Registry) leases(ctx context.Context, role string) ([]string, []rueidis.RedisMessage, error) {
	b := r.client.B
	mget := func(names []string) rueidis.Completed {
		keys := make([]string, len(names))
		for i, name := range names {
			keys[i] = r.lease(role, name)
		}
		return b().Mget().Key(keys...).Build()
	}
	cmds := rueidis.Commands{b().Smembers().Key(r.names(role)).Build()}
	last, _ := r.last.Load(role)
	known, _ := last.([]string)
	if len(known) > 0 {
		cmds = append(cmds, mget(known))
	}
	rs := r.client.DoMulti(ctx, cmds...)
	names, err := rs[0].AsStrSlice()
	if err != nil || len(names) == 0 {
		return nil, nil, err
	}
	slices.Sort(names)
	if slices.Equal(names, known) {
		replies, err := rs[1].ToArray()
		return names, replies, err
	}
	r.last.Store(role, names)
	replies, err := r.client.Do(ctx, mget(names)).ToArray()
	return names, replies, err
}

// forget drops names that had no lease for a while. One that comes back at
// that very moment is there again with its next beat.
func (r *Registry) forget(ctx context.Context, role string, without []string) error {
	now := time.Now()
	lack := map[string]time.Time{}
	var old []string
	r.mu.Lock()
	for _, name := range without {
		since, ok := r.lack[r.lease(role, name)]
		if !ok {
			since = now
		}
		if now.Sub(since) > forgetAfter {
			old = append(old, name)
			continue
		}
		lack[r.lease(role, name)] = since
	}
	for key, since := range r.lack { // of other roles
		if !strings.HasPrefix(key, r.names(role)+":") {
			lack[key] = since
		}
	}
	r.lack = lack
	r.mu.Unlock()
	if len(old) == 0 {
		return nil
	}
	return r.client.Do(ctx, r.client.B().Srem().Key(r.names(role)).Member(old...).Build()).Error()
}

// Leave implements [fleet.Registry].
func (r *Registry) Leave(ctx context.Context, role string, m fleet.Member) error {
	key := r.lease(role, m.Name)
	var now fleet.Member
	err := r.client.Do(ctx, r.client.B().Get().Key(key).Build()).DecodeJSON(&now)
	switch {
	case rueidis.IsRedisNil(err) || err == nil && now.Life != m.Life:
		return nil // the lease is over, or another life's
	case err != nil:
		return fmt.Errorf("redisreg: leave: %w", err)
	}
	return r.client.Do(ctx, r.client.B().Del().Key(key).Build()).Error()
}
