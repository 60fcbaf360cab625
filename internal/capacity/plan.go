package capacity

import (
	"fmt"
	"math"
	"time"
)

// Rules are those by which processes refuse to start or to take more: the
// commands' own, so that a plan can't differ from them.
type Rules struct {
	// Clients returns the most connections that a fleet has to one node of
	// Redis, and ClientsFree which share of maxclients is kept for others.
	Clients     func(processes, shards int) int
	ClientsFree float64

	// Sockets returns how many clients a gateway takes that may have so many
	// open files.
	Sockets func(files int) int

	// ShardsMax is how many shards are provisioned unless more are asked for.
	ShardsMax int
}

// What a fleet has at least: where it starts, and who stands by.
const (
	shardsLeast    = 24 // the original's lesson
	shardsStep     = 12 // spread evenly over 3, 4, 6 and 12 primaries (docs/redislog.md)
	primariesLeast = 3
	claimsLeast    = 3 // one that dies takes a third along (docs/reliability.md)
	othersLeast    = 2 // one stands by
)

// A Plan is what a load takes.
type Plan struct {
	Load      Load      `json:"load"`
	Prices    Prices    `json:"prices"`
	Processes Processes `json:"processes"`
	Shards    int       `json:"shards"`
	Primaries int       `json:"redis_primaries"`
	Nodes     int       `json:"redis_nodes"` // replicas included

	RedisGB      float64  `json:"redis_gb"`        // of all primaries together, of which
	RedisMapsGB  float64  `json:"redis_maps_gb"`   // the maps log
	RedisClients int      `json:"redis_clients"`   // of one node, at most
	LedgerRows   float64  `json:"ledger_rows_s"`   //
	LedgerGB     float64  `json:"ledger_gb"`       // once it has kept what it keeps
	Egress       float64  `json:"egress_bit_s"`    // at the peak
	SocketGB     float64  `json:"gateway_gb"`      // memory of one gateway, the kernel's part included
	Comeback     float64  `json:"comeback_s"`      // until all connections that were cut at once are taken again
	Usage        Usage    `json:"usage"`           // at the peak
	Cost         Costs    `json:"cost_month"`      //
	Limits       []Limit  `json:"limits"`          // the nearest first
	Unmet        []Limit  `json:"unmet,omitempty"` // of them, those over their headroom: more processes don't help
	Notes        []string `json:"notes,omitempty"` //
}

// A Limit is something that there is so much of.
type Limit struct {
	Name  string  `json:"name"`
	Used  float64 `json:"used"`
	Of    float64 `json:"of"`
	Unit  string  `json:"unit"`
	Raise string  `json:"raise"` // what raising it takes
}

// Share returns how much of it is used, 1 being all.
func (l Limit) Share() float64 { return l.Used / l.Of }

// Grows returns by what factor the load can grow until it breaks.
func (l Limit) Grows() float64 {
	if l.Used <= 0 {
		return math.Inf(1)
	}
	return l.Of / l.Used
}

// New plans a fleet for the load. A load that can't be is a [cairn.FieldError].
func New(l Load, prices Prices, c *Coefficients, rules Rules) (*Plan, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	if err := prices.Validate(); err != nil {
		return nil, err
	}
	p := &Plan{Load: l, Prices: prices}
	z := sizer{c: c, l: &l, rules: rules, free: 1 - l.Headroom, p: p}
	z.shards()
	z.claims()
	z.gateways()
	z.followers()
	z.redis()
	p.Usage = c.Predict(&l, p.Processes, p.Shards)
	z.costs()
	z.limits()
	return p, nil
}

// A sizer works out a plan, part by part.
type sizer struct {
	c     *Coefficients
	l     *Load
	rules Rules
	free  float64 // share of a limit that is planned with
	view  view
	p     *Plan
}

// shards: the one loop of a shard decides all its attempts, and each append
// carries as many claims as its 64 KiB take.
func (z *sizer) shards() {
	if z.p.Shards = z.l.Shards; z.p.Shards > 0 {
		return
	}
	byLoop := z.l.Attempts * z.c.ShardAttempt / z.free
	byAppend := z.l.WinsPerS() / z.shardWins() / z.free
	need := int(math.Ceil(max(byLoop, byAppend, shardsLeast)/shardsStep)) * shardsStep
	z.p.Shards = need
}

// shardWins returns how many claims a shard can append a second.
func (z *sizer) shardWins() float64 {
	return math.Floor(recordMax/z.claimBytes()) / z.c.appendTime(z.l.Ack)
}

// recordMax is a record's size at most (docs/wire.md).
const recordMax = 64 << 10

func (z *sizer) claimBytes() float64 { return z.c.ClaimRecord + float64(z.l.Names) }

// claims processes: each keeps the others' shards warm, so that beyond some
// point more of them don't help.
func (z *sizer) claims() {
	a, w := z.l.Attempts, z.l.WinsPerS()
	each := z.l.Machine.ClaimsCores*z.free - z.c.ClaimsIdle - w*z.c.ClaimsStandby
	work := a*z.c.ClaimsAttempt + w*z.c.ClaimsWin
	z.p.Processes.Claims = max(claimsLeast, atLeast(work, each))
}

// atLeast returns how many things that take each make up work. Where they can't
// take any, it is what they would be were they empty; limits says why.
func atLeast(work, each float64) int {
	if each <= 0 {
		return 1
	}
	return int(min(1e6, math.Ceil(work/each)))
}

// gateways: by connections, by processors, by memory, by bytes out.
func (z *sizer) gateways() {
	m, conns := &z.l.Machine, float64(z.l.Connections)
	z.view = z.c.view(z.l)
	parts := z.c.gatewayParts(z.l, z.view)
	z.p.Egress = 8 * (conns*z.view.bytes + z.c.answers(z.l))
	z.p.Processes.Gateways = max(othersLeast,
		atLeast(conns, float64(z.rules.Sockets(m.GatewayFiles))*z.free),
		atLeast(parts.attempts+parts.deliveries, m.GatewayCores*z.free-parts.each-connectRate*z.c.Handshake),
		atLeast(conns*z.socketBytes(), (m.GatewayMemory-m.ProcessMemory)*1e9*z.free),
		atLeast(z.p.Egress, m.GatewayGbit*1e9*z.free),
	)
	n := float64(z.p.Processes.Gateways)
	z.p.SocketGB = m.ProcessMemory + conns*z.socketBytes()/n/1e9
	z.p.Comeback = max(0, (conns/n-connectBurst)/connectRate)
}

func (z *sizer) socketBytes() float64 { return z.c.SocketUser + z.c.SocketKernel }

// A gateway's admission by default (docs/broadcast.md).
const (
	connectRate  = 2000
	connectBurst = 4000
)

func (z *sizer) followers() {
	p := &z.p.Processes
	p.Generators, p.Leaderboards = othersLeast, othersLeast
	each := z.l.Machine.FollowerCores*z.free - z.c.RewardsIdle
	p.Rewards = max(othersLeast, atLeast(z.l.WinsPerS()*z.c.RewardsWin, each))
	z.p.LedgerRows = z.l.WinsPerS()
	z.p.LedgerGB = z.l.WinsPerS() * z.l.Mean * z.c.LedgerEntry * time.Duration(z.l.LedgerKeeps).Seconds() / 1e9
}

// redis: memory for what is kept at the mean load, and processors.
func (z *sizer) redis() {
	logs := z.c.logs(z.l, z.p.Shards)
	kept := time.Duration(z.l.Retention).Seconds()
	// Logs are as full as the busiest hours make them, not as the mean.
	z.p.RedisMapsGB = logs.mapEntry * kept / 1e9
	z.p.RedisGB = logs.entryBytes*kept/1e9 + z.p.RedisMapsGB
	cores := logs.appends*z.c.RedisAppend + float64(z.p.Processes.Sum())*z.c.RedisProcess
	z.p.Primaries = max(primariesLeast, atLeast(z.p.RedisGB, z.l.Machine.RedisMemory*z.free), atLeast(cores, z.free)) // a node computes on one core
	z.p.Nodes = z.p.Primaries * (1 + z.l.Replicas)
	z.p.RedisClients = z.rules.Clients(z.p.Processes.Sum(), z.p.Shards)
	if z.p.Shards > z.rules.ShardsMax {
		z.p.Notes = append(z.p.Notes, fmt.Sprintf("%d shards are more than are provisioned by default: cairn log init --shards-max %d", z.p.Shards, z.p.Shards))
	}
}
