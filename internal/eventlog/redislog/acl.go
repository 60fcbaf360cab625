package redislog

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/veltrix/cairn/internal/eventlog"
)

// The roles that an ACL file has a user for. Those up to rewards are the
// processes of a fleet.
const (
	RoleGenerator   = "generator"
	RoleClaims      = "claims"
	RoleGateway     = "gateway"
	RoleLeaderboard = "leaderboard"
	RoleRewards     = "rewards"
	RoleVerify      = "verify"   // cairn verify
	RoleAdmin       = "admin"    // cairn log init, status, reset
	RoleReplica     = "replica"  // masteruser of the nodes themselves
	RoleOperator    = "operator" // redis-cli: may do all
)

// ACLRoles returns all roles, in the order of the file.
func ACLRoles() []string {
	return []string{
		RoleGenerator, RoleClaims, RoleGateway, RoleLeaderboard, RoleRewards,
		RoleVerify, RoleAdmin, RoleReplica, RoleOperator,
	}
}

// ACLUser returns the name of a role's user.
func ACLUser(role string) string { return "cairn-" + role }

const (
	// What every process sends: to connect, to find the nodes and to check
	// that they are fit. CONFIG GET can't be narrowed to some settings.
	aclConnect = "+hello +ping +select +info +config|get +cluster|nodes +cluster|slots +cluster|shards +cluster|myid"
	// Each reads all logs, and is told when a quiet one was written.
	aclRead = "+scan +xrange +xrevrange +xlen +pttl +client|tracking +client|caching %R~PREFIX:{*}:log"
	// A process of a fleet keeps a lease: a key with a TTL, under one tag.
	aclLease = "(+get +mget +set +del +sadd +srem +smembers ~PREFIX:{fleet}:*)"
	// A writer's, without XSETID, which moves a fence, and DEL and EXPIRE,
	// which lose it. Keys follow.
	aclWrite = "+xadd +watch +unwatch +multi +exec +wait"
)

// ACL returns an ACL file for Redis 7.0 (aclfile in redis.conf): a user a role
// with only the commands and keys that it needs, under a prefix of keys as in
// [Options]; empty means "cairn". Passwords are kept as hashes. A role without
// a password has a user that is off, and so is Redis' own default user.
func ACL(prefix string, passwords map[string]string) (string, error) {
	prefix = Options{Prefix: prefix}.withDefaults().Prefix
	if err := eventlog.ValidName(eventlog.Name(prefix)); err != nil {
		return "", fmt.Errorf("redislog: prefix: %w", err)
	}
	var b strings.Builder
	b.WriteString("user default off\n")
	for _, role := range ACLRoles() {
		fmt.Fprintf(&b, "user %s ", ACLUser(role))
		if p := passwords[role]; p != "" {
			fmt.Fprintf(&b, "on #%x ", sha256.Sum256([]byte(p)))
		} else {
			b.WriteString("off ")
		}
		b.WriteString("resetkeys resetchannels -@all ")
		b.WriteString(strings.ReplaceAll(strings.Join(aclRules(role), " "), "PREFIX", prefix) + "\n")
	}
	return b.String(), nil
}

// aclRules returns what a role may do; PREFIX stands for the prefix.
func aclRules(role string) []string {
	process := []string{aclConnect, aclRead, aclLease}
	switch role {
	case RoleGenerator:
		return append(process, aclWrite, "~PREFIX:{maps}:log")
	case RoleClaims:
		return append(process, aclWrite, "~PREFIX:{s[0-9]*}:log")
	case RoleGateway: // passes on what operators do
		return append(process, aclWrite, "~PREFIX:{control}:log")
	case RoleLeaderboard: // and runs the retention
		return append(process, aclWrite, "~PREFIX:{standings}:log", "(+xtrim ~PREFIX:{*}:log)")
	case RoleRewards:
		return process
	case RoleVerify:
		return []string{aclConnect, aclRead}
	case RoleAdmin:
		return []string{aclConnect, aclRead, aclWrite, "+memory|usage +del ~PREFIX:{*}:log"}
	case RoleReplica:
		return []string{"+psync +sync +replconf +ping"} // SYNC is how redis-cli --rdb asks for a copy
	}
	return []string{"~* &* +@all"}
}
