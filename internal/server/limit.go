package server

import (
	"hash/maphash"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A Rate is a limit: PerSecond on average, and Burst at once. The zero Rate
// stands for a default; a negative PerSecond is no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

func (r Rate) or(def Rate) Rate {
	if r == (Rate{}) {
		return def
	}
	return r
}

// The default limits.
var (
	defaultPlayerClaims  = Rate{20, 50}    // a player's attempts
	defaultAddressClaims = Rate{500, 1000} // attempts of all players behind one address
	defaultAddressGuests = Rate{2, 20}     // guests signed in from one address
)

// Limits bounds what one player and one address may ask for. Loopback
// addresses are exempt from limits by address.
type Limits struct {
	PlayerClaims  Rate // zero means 20/s, 50 at once
	AddressClaims Rate // zero means 500/s, 1,000 at once
	AddressGuests Rate // zero means 2/s, 20 at once

	Proxies Proxies // that say for whom they ask; nil: nobody's word is taken
}

const (
	limitShards   = 32
	limitShardMax = 4096 // keys; 131,072 in all, about 20 MB when full
)

// A limiter is a table of token buckets by key, bounded and sharded, so that
// two players hardly ever meet at one lock. A full shard first forgets the
// buckets that are full again, which loses nothing; when all are in use it
// forgets the one unused for longest among a few, which forgives somebody:
// memory is bounded before fairness. A nil limiter limits nothing.
type limiter[K comparable] struct {
	limit rate.Limit
	burst int
	seed  maphash.Seed

	shards [limitShards]limitShard[K]
}

type limitShard[K comparable] struct {
	mu sync.Mutex
	m  map[K]*bucket
}

type bucket struct {
	*rate.Limiter
	used time.Time // guarded by the shard's lock
}

// take takes one, or nothing and returns how long until there is one again.
func (b *bucket) take(now time.Time) time.Duration {
	r := b.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// newLimiter returns a limiter, or nil if r is no limit.
func newLimiter[K comparable](r Rate) *limiter[K] {
	if r.PerSecond < 0 {
		return nil
	}
	return &limiter[K]{limit: rate.Limit(r.PerSecond), burst: max(r.Burst, 1), seed: maphash.MakeSeed()}
}

// take takes one from the bucket of key. When it is empty, take returns how
// long until there is one again, and takes nothing.
func (l *limiter[K]) take(key K, now time.Time) (wait time.Duration) {
	if l == nil {
		return 0
	}
	return l.bucket(key, now).take(now)
}

// takeAll takes one for each of waits that is 0, as take does, sets the wait of
// those for which there is none, and returns how many these are.
func (l *limiter[K]) takeAll(key K, now time.Time, waits []time.Duration) (refused int) {
	if l == nil {
		return 0
	}
	b := l.bucket(key, now)
	n := 0
	for _, w := range waits {
		if w == 0 {
			n++
		}
	}
	if b.AllowN(now, n) {
		return 0
	}
	for i := range waits {
		if waits[i] > 0 {
			continue
		}
		if waits[i] = b.take(now); waits[i] > 0 {
			refused++
		}
	}
	return refused
}

func (l *limiter[K]) bucket(key K, now time.Time) *bucket {
	s := &l.shards[maphash.Comparable(l.seed, key)%limitShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.m[key]
	if !ok {
		if s.m == nil {
			s.m = make(map[K]*bucket)
		}
		if len(s.m) >= limitShardMax {
			s.evict(now, float64(l.burst))
		}
		b = &bucket{Limiter: rate.NewLimiter(l.limit, l.burst)}
		s.m[key] = b
	}
	b.used = now
	return b
}

// evict makes room for one. It looks at a bounded number of buckets, so that
// nobody pays for the whole table; Go begins a map's range anywhere.
func (s *limitShard[K]) evict(now time.Time, full float64) {
	const look = 64
	var oldest K
	var used time.Time
	seen, freed := 0, 0
	for k, b := range s.m {
		if b.TokensAt(now) >= full {
			delete(s.m, k)
			freed++
		} else if used.IsZero() || b.used.Before(used) {
			oldest, used = k, b.used
		}
		if seen++; seen == look {
			break
		}
	}
	if freed == 0 {
		delete(s.m, oldest)
	}
}

// address returns the address that a request is counted under, and whether it
// is counted at all.
func (s *Server) address(r *http.Request) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, true // unknown: all of these share one bucket
	}
	return addressOf(s.opts.Limits.Proxies.client(ap.Addr(), r.Header))
}

// addressOf returns what an address is counted under, and whether it is counted
// at all: loopback is not. An IPv6 host owns its /64.
func addressOf(a netip.Addr) (netip.Addr, bool) {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() {
		return a, false
	}
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return a, true
}

// retryAfter writes a wait as Retry-After has it: whole seconds, at least one.
func retryAfter(wait time.Duration) string {
	return strconv.Itoa(int(max(1, math.Ceil(wait.Seconds()))))
}
