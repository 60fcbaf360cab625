package capacity

import "time"

// Costs are what a fleet costs a month, by what it is spent on.
type Costs struct {
	Claims      float64 `json:"claims"`      // the way of an attempt: its part of the gateways, claims processes, the shards' logs
	FanOut      float64 `json:"fan_out"`     // the way of a delta: the other part of the gateways
	Egress      float64 `json:"egress"`      // of it, what goes out to the players: apart, since it is the largest, and the most negotiable
	Leaderboard float64 `json:"leaderboard"` //
	Ledger      float64 `json:"ledger"`      // rewards processes, PostgreSQL and its disk
	Maps        float64 `json:"maps"`        // generators, the maps log
}

// Sum returns all of it.
func (c Costs) Sum() float64 {
	return c.Claims + c.FanOut + c.Egress + c.Leaderboard + c.Ledger + c.Maps
}

// Machines returns all but what goes out to the players.
func (c Costs) Machines() float64 { return c.Sum() - c.Egress }

// ledgerMachine is a PostgreSQL as these plans take it, with a standby: what
// its 139,000 rows a second were measured on, and memory.
const (
	ledgerServers = 2
	ledgerCores   = 2
	ledgerMemory  = 8 // GB
)

// costs adds up machines as they are there, at the size of the peak, and bytes
// as they flow, at the mean.
func (z *sizer) costs() {
	p, l, pr, m := z.p, z.l, &z.p.Prices, &z.l.Machine
	machine := func(cores, gb float64) float64 { return pr.Hours * (cores*pr.CoreHour + gb*pr.MemoryHour) }
	month := pr.Hours * 3600 * l.Mean / 1e9 // of a byte a second at the peak, in GB

	gateways := float64(p.Processes.Gateways) * machine(m.GatewayCores, m.GatewayMemory)
	parts := z.c.gatewayParts(l, z.view)
	ofClaims := 0.0
	if busy := parts.attempts + parts.deliveries; busy > 0 {
		ofClaims = parts.attempts / busy
	}
	logs := z.c.logs(l, p.Shards)
	redis := float64(p.Nodes) * machine(1, m.RedisMemory)
	ofMaps := p.RedisMapsGB / p.RedisGB
	readers := float64(p.Processes.Sum() + p.Nodes - p.Primaries)
	followed := (logs.claimBytes + logs.mapBytes) * readers * month * pr.Between
	processMemory := m.ProcessMemory + 1
	open := l.tilesPerS() * time.Duration(l.Lifetime).Seconds() * z.c.TileMemory / 1e9

	p.Cost = Costs{
		Claims:      ofClaims*gateways + float64(p.Processes.Claims)*machine(m.ClaimsCores, processMemory+open) + (1-ofMaps)*redis + followed,
		FanOut:      (1 - ofClaims) * gateways,
		Egress:      p.Egress / 8 * month * pr.Egress,
		Leaderboard: float64(p.Processes.Leaderboards) * machine(m.FollowerCores, processMemory+float64(l.Players*(1+l.Boards))*z.c.LeaderboardPlayer/1e9),
		Ledger:      float64(p.Processes.Rewards)*machine(m.FollowerCores, processMemory) + ledgerServers*(machine(ledgerCores, ledgerMemory)+p.LedgerGB*pr.Disk),
		Maps:        float64(p.Processes.Generators)*machine(1, processMemory) + ofMaps*redis,
	}
}
