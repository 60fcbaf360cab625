package fleet

import (
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// score is a member's claim to a shard: the highest owns it. This is rendezvous
// hashing (Thaler and Ravishankar, 1996): a member that joins takes only what
// it scores highest for, and one that leaves gives up only what it had.
func score(name string, shard int) uint64 {
	var a [80]byte
	b := append(append(a[:0], name...), '#')
	return xxhash.Sum64(strconv.AppendInt(b, int64(shard), 10))
}

// Assign returns the name of each shard's owner among members, "" if there is
// nobody. Shards fall to those who are live; while there are none, to those who
// are leaving, so that a process that nobody follows serves until it ends.
func Assign(members []Member, shards int) []string {
	owners := make([]string, shards)
	for _, state := range []State{Live, Leaving} {
		best := make([]uint64, shards)
		for i := range members {
			if members[i].State != state {
				continue
			}
			for s := range owners {
				if sc := score(members[i].Name, s); owners[s] == "" || sc > best[s] || sc == best[s] && members[i].Name > owners[s] {
					owners[s], best[s] = members[i].Name, sc
				}
			}
		}
		if shards > 0 && owners[0] != "" {
			break
		}
	}
	return owners
}

// Without returns members but the one of that name.
func Without(members []Member, name string) []Member {
	rest := make([]Member, 0, len(members))
	for _, m := range members {
		if m.Name != name {
			rest = append(rest, m)
		}
	}
	return rest
}
