package capacity

import (
	"math"
	"time"
)

// A Usage is what a fleet does under a load, a second: what a plan predicts and
// a run measures. Cores are CPU seconds a second, all processes of a role
// together.
type Usage struct {
	GatewayCores     float64 `json:"gateway_cores"`
	ClaimsCores      float64 `json:"claims_cores"`
	LeaderboardCores float64 `json:"leaderboard_cores"`
	RewardsCores     float64 `json:"rewards_cores"`
	GeneratorCores   float64 `json:"generator_cores"`
	RedisCores       float64 `json:"redis_cores"` // of the primaries

	Deliveries     float64 `json:"deliveries_per_s"` // frames to clients; several may be one write
	DeliveredBytes float64 `json:"delivered_bytes_per_s"`
	LogBytes       float64 `json:"log_bytes_per_s"` // bodies of shards' and maps' logs
	Appends        float64 `json:"appends_per_s"`   // to the shards' logs
}

// Processes are how many there are of each role.
type Processes struct {
	Generators   int `json:"generators"`
	Claims       int `json:"claims"`
	Gateways     int `json:"gateways"`
	Leaderboards int `json:"leaderboards"`
	Rewards      int `json:"rewards"`
}

// Sum returns how many there are.
func (p Processes) Sum() int {
	return p.Generators + p.Claims + p.Gateways + p.Leaderboards + p.Rewards
}

// Predict returns what a fleet of so many processes does under the load.
func (c *Coefficients) Predict(l *Load, p Processes, shards int) Usage {
	a, w := l.Attempts, l.WinsPerS()
	view := c.view(l)
	gateway := c.gatewayParts(l, view)
	logs := c.logs(l, shards)
	n := float64(p.Sum())
	answers := 0.0 // on WebSockets
	if l.Over == "socket" {
		answers = c.answers(l)
	}
	return Usage{
		GatewayCores:     gateway.attempts + gateway.deliveries + float64(p.Gateways)*gateway.each,
		ClaimsCores:      a*c.ClaimsAttempt + w*c.ClaimsWin + float64(p.Claims)*c.ClaimsIdle + max(0, float64(p.Claims-1))*w*c.ClaimsStandby,
		LeaderboardCores: float64(p.Leaderboards) * (c.LeaderboardIdle + w*c.leaderboardWin(l)),
		RewardsCores:     float64(p.Rewards)*c.RewardsIdle + w*c.RewardsWin,
		GeneratorCores:   float64(p.Generators)*c.GeneratorIdle + l.tilesPerS()*c.GeneratorTile,
		RedisCores:       logs.appends*c.RedisAppend + n*c.RedisProcess,
		Deliveries:       float64(l.Connections) * view.frames,
		DeliveredBytes:   float64(l.Connections)*view.bytes + answers,
		LogBytes:         logs.claimBytes + logs.mapBytes,
		Appends:          logs.appends,
	}
}

// A view is what one client is told, a second.
type view struct {
	writes float64 // of all that a sweep has for it
	frames float64
	bytes  float64
}

// view returns what a client that watches InView of a hunt's Regions is told.
//
// What changes there comes at rate λ: claims in view, maps that open and close.
// The sweep after a change comes one period after the sweep before, or at once
// if that is longer ago: with independent changes every p + e^(-λp)/λ.
func (c *Coefficients) view(l *Load) view {
	share := float64(l.InView) / float64(l.Regions)
	claims := l.WinsPerS() / float64(l.Hunts)
	maps := 1 / time.Duration(l.Tick).Seconds()
	inView := claims * share
	λ := inView + 2*maps
	boards := 0.0
	if l.Standings && l.Boards > 0 {
		λ += min(claims, 1/c.PublishEvery) // each publishing is a change of its own
		boards = perSecond(min(claims, 1/c.PublishEvery), l.sweep()) * float64(l.Boards)
	}
	deltas := float64(l.InView) * perSecond(inView/float64(l.InView)+2*maps, l.sweep())
	b := c.bytesOf(l.Codec)
	return view{
		writes: perSecond(λ, l.sweep()),
		frames: deltas + boards,
		bytes:  inView*b.claim + share*float64(l.Tiles)*maps*b.tile + deltas*b.frame + boards*b.board,
	}
}

func (l *Load) sweep() float64 { return time.Duration(l.Sweep).Seconds() }

// perSecond returns how many sweeps of a period see a change, of those that come
// at a rate.
func perSecond(rate, period float64) float64 {
	if rate <= 0 {
		return 0
	}
	return 1 / (period + math.Exp(-rate*period)/rate)
}

// gatewayParts are the cores of all gateways, by what they are for.
type gatewayParts struct {
	attempts   float64 // the way of a claim
	deliveries float64 // the way of a delta
	each       float64 // of one gateway, whatever it serves: it follows all logs
}

func (c *Coefficients) gatewayParts(l *Load, v view) gatewayParts {
	return gatewayParts{
		attempts:   l.Attempts * c.AttemptCores(l),
		deliveries: float64(l.Connections) * v.writes * c.Delivery,
		each:       c.GatewayIdle + l.WinsPerS()*c.GatewayWin,
	}
}

// logRates are what the logs take, a second.
type logRates struct {
	appends    float64 // to shards
	claimBytes float64 // bodies
	mapBytes   float64
	entryBytes float64 // in Redis, what it adds included
	mapEntry   float64
}

// logs returns what the logs take. A shard appends whenever one append is
// answered and something waits: at a low rate a claim an append, at a high one
// as many as come in an append's time.
func (c *Coefficients) logs(l *Load, shards int) logRates {
	w := l.WinsPerS()
	appends := float64(shards) * perSecond(w/float64(shards), c.appendTime(l.Ack))
	body := w * (c.ClaimRecord + float64(l.Names))
	maps := l.tilesPerS() * c.TileRecord
	mapRecords := float64(l.Hunts) / time.Duration(l.Tick).Seconds() * (math.Ceil(float64(l.Tiles)/3000) + 1)
	return logRates{
		appends: appends, claimBytes: body, mapBytes: maps,
		entryBytes: body + appends*c.RedisEntry, mapEntry: maps + mapRecords*(c.RedisEntry+mapHeaderBytes),
	}
}

// mapHeaderBytes is about what a map's header record takes (docs/wire.md).
const mapHeaderBytes = 130

func (c *Coefficients) appendTime(ack string) float64 {
	switch ack {
	case "replicas":
		return c.AppendReplicas
	case "fsync":
		return c.AppendFsync
	}
	return c.AppendPrimary
}

// leaderboardPlayers is how many players a fold is measured with.
const leaderboardPlayers = 1000

// leaderboardWin returns the CPU seconds of a claim in each leaderboard process.
func (c *Coefficients) leaderboardWin(l *Load) float64 {
	return c.LeaderboardWin + c.LeaderboardGrowth*max(0, math.Log2(float64(l.Players)/leaderboardPlayers))
}

// answers returns the bytes that players are answered a second.
func (c *Coefficients) answers(l *Load) float64 { return l.Attempts * c.bytesOf(l.Codec).outcome }

// AttemptCores returns the CPU seconds that an attempt takes of the gateway that
// it comes through, of those that win and those that lose.
func (c *Coefficients) AttemptCores(l *Load) float64 {
	if l.Over == "http" {
		return c.GatewayRequest + l.Wins*c.GatewayWon
	}
	return c.GatewayFrame + l.Wins*c.GatewayWon
}

// SocketCores returns the cores that one client takes of a gateway by watching
// as l's do.
func (c *Coefficients) SocketCores(l *Load) float64 { return c.view(l).writes * c.Delivery }
