package capacity

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// limits lists what there is so much of, the nearest first.
func (z *sizer) limits() {
	p, l, c, m := z.p, z.l, z.c, &z.l.Machine
	n, w := float64(p.Processes.Gateways), l.WinsPerS()
	conns := float64(l.Connections)
	nodeClients := float64(m.RedisClients) * (1 - z.rules.ClientsFree)
	p.Limits = []Limit{
		{"sockets of a gateway", conns / n, float64(z.rules.Sockets(m.GatewayFiles)), "connections", "its limit of open files (LimitNOFILE), or one gateway more"},
		{"processors of a gateway", p.Usage.GatewayCores / n, m.GatewayCores, "cores", "a gateway more, a longer sweep (PATCH /admin/v1/knobs), or more cores each"},
		{"a gateway that a crowd comes back to", p.Usage.GatewayCores/n + connectRate*c.Handshake, m.GatewayCores, "cores", "a gateway more, or a lower --connect-rate"},
		{"bytes out of a gateway", p.Egress / n / 1e9, m.GatewayGbit, "Gbit/s", "a gateway more, cairn.v1.proto, finer regions, a longer sweep, or fewer tiles a map"},
		{"memory of a gateway", p.SocketGB, m.GatewayMemory, "GB", "a gateway more, or more memory each"},
		{"following the logs, in a gateway", c.GatewayIdle + w*c.GatewayWin, m.GatewayCores, "cores", "more cores a gateway: each folds every claim, so another gateway does not help"},
		{"processors of a claims process", p.Usage.ClaimsCores / float64(p.Processes.Claims), m.ClaimsCores, "cores", "a claims process more, or more cores each"},
		{"keeping shards warm, in a claims process", c.ClaimsIdle + w*c.ClaimsStandby, m.ClaimsCores, "cores", "more cores a process: each folds every claim"},
		{"the loop of a shard", l.Attempts * c.ShardAttempt / float64(p.Shards), 1, "cores", "more shards (cairn hunt set NAME --shards), from the next map on"},
		{"appends of a shard", w / float64(p.Shards), z.shardWins(), "claims/s", "more shards (cairn hunt set NAME --shards), from the next map on"},
		{"memory of a Redis primary", p.RedisGB / float64(p.Primaries), m.RedisMemory, "GB", "a primary more and a rebalance, more memory (maxmemory), or a shorter --retention"},
		{"processor of a Redis primary", p.Usage.RedisCores / float64(p.Primaries), 1, "cores", "a primary more and a rebalance; fewer processes, for each asks every log"},
		{"clients of a Redis node", float64(p.RedisClients), nodeClients, "connections", fmt.Sprintf("CONFIG SET maxclients %d, and its limit of open files with it", int(2*float64(p.RedisClients)/(1-z.rules.ClientsFree)))},
		{"the leaderboard's fold", c.LeaderboardIdle + w*c.leaderboardWin(l), 1, "cores", "a faster core: one process leads, and folds on one core"},
		{"rows of the ledger", w, c.LedgerRows, "rows/s", "a larger PostgreSQL: one database takes all rows"},
		{"disk of the ledger", p.LedgerGB, m.LedgerDisk, "GB", "a larger disk, or archive entries that are paid"},
		{"time of a sweep", z.sweepTime(), time.Duration(l.Sweep).Seconds() * 1000, "ms", "a gateway more, or a longer sweep: until then deltas coalesce, and nothing is lost"},
	}
	slices.SortStableFunc(p.Limits, func(a, b Limit) int { return cmp.Compare(b.Share(), a.Share()) })
	for _, x := range p.Limits {
		if x.Share() > z.free+1e-9 {
			p.Unmet = append(p.Unmet, x)
		}
	}
}

// sweepTime returns how many milliseconds of all of a gateway's cores one sweep
// takes to everybody on it.
func (z *sizer) sweepTime() float64 {
	perSweep := min(1, z.view.writes*z.l.sweep())
	return 1000 * float64(z.l.Connections) / float64(z.p.Processes.Gateways) * perSweep * z.c.Delivery / z.l.Machine.GatewayCores
}
