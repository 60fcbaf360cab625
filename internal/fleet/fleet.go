// Package fleet makes one game of many processes: who is there, who owns which
// shard, and how an attempt gets from a gateway to the shard's owner.
//
// Nothing here is needed for safety. Two processes that believe that they own
// a shard are told apart by the shard's log, whose fence shuts the older one
// out; the worst that a wrong belief costs is time. So everybody computes the
// assignment for itself, from the members it sees, and there is no leader, no
// lock and no agreement.
package fleet

//go:generate npx --yes @bufbuild/buf@1.75.0 generate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A State says what a member is ready for.
type State string

// The states of a member.
const (
	Warming State = "warming" // reads its logs; owns nothing yet
	Live    State = "live"    // owns what falls to it
	Leaving State = "leaving" // hands over what it owns, and takes nothing
)

// A Member is one process of a role, as its last heartbeat had it.
type Member struct {
	Name   string `json:"name"`   // what shards fall to: unique in the role, the same after a restart
	Life   string `json:"life"`   // unique to this run of the process
	Addr   string `json:"addr"`   // HOST:PORT of its fleet listener; empty if it has none
	State  State  `json:"state"`  //
	Beat   uint64 `json:"beat"`   // counts its heartbeats
	Serves []int  `json:"serves"` // the shards it serves now
}

// A Registry keeps the members of each role, each for as long as its lease
// runs by the registry's own clock. Its methods may be called concurrently.
// Members that have never beaten, or long ago, do not exist; losing all of a
// registry's memory costs no more than one lease's time.
type Registry interface {
	// Beat makes m a member, or renews its lease, for ttl from now. It reports
	// whether there was a lease of that name to renew.
	Beat(ctx context.Context, role string, m Member, ttl time.Duration) (renewed bool, err error)

	// Members returns all members of a role whose leases run.
	Members(ctx context.Context, role string) ([]Member, error)

	// Leave ends the lease of the member of that name, if it is this life's.
	Leave(ctx context.Context, role string, m Member) error
}

// The roles that have members.
const (
	RoleClaims      = "claims"
	RoleGateway     = "gateway"
	RoleGenerator   = "generator"
	RoleLeaderboard = "leaderboard"
	RoleRewards     = "rewards"
)

// Timing is how fast a fleet notices. The zero value is ready for production:
// it finds a process that is gone within TTL + PollEvery.
type Timing struct {
	TTL       time.Duration // of a lease; 0 means 700ms
	BeatEvery time.Duration // between heartbeats; 0 means TTL/5
	PollEvery time.Duration // between looks at the registry; 0 means TTL/10
}

func (t Timing) withDefaults() Timing {
	if t.TTL == 0 {
		t.TTL = 700 * time.Millisecond
	}
	if t.BeatEvery == 0 {
		t.BeatEvery = t.TTL / 5
	}
	if t.PollEvery == 0 {
		t.PollEvery = t.TTL / 10
	}
	return t
}

// ValidName reports what is wrong with a member's name.
func ValidName(name string) error {
	bad := strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:[]", r))
	})
	if bad || name == "" || len(name) > 64 {
		return fmt.Errorf("fleet: name %.70q: want 1 to 64 letters, digits and -_.:[]", name)
	}
	return nil
}

// sortMembers puts members into the order of their names.
func sortMembers(ms []Member) {
	slices.SortFunc(ms, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
}
