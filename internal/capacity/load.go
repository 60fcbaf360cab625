// Package capacity reckons what a load takes: shards, Redis, processes of each
// role, bytes and money, and which limit breaks first. Package sim under it
// plays a day's traffic against an autoscaler.
//
// It is arithmetic: it knows no live system, reads no clock and opens nothing.
// What it knows of ours was measured and is in coefficients.json, each figure
// with where it comes from; what it knows of others is published and is in
// original.go. docs/capacity.md has the model.
package capacity

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/veltrix/cairn"
)

// A Load is what is to be carried, at its peak, and the rules by which it is to
// be carried. DefaultLoad has values for all of it.
type Load struct {
	Players     int     `json:"players"`        // that play at once
	Connections int     `json:"connections"`    // that watch
	Attempts    float64 `json:"attempts_per_s"` // all players together
	Wins        float64 `json:"wins"`           // share of the attempts that win a tile, 0 to 1
	Over        string  `json:"attempts_over"`  // socket: a frame of a WebSocket each; http: a request each

	Hunts    int            `json:"hunts"`         // live at once, equally large
	Tiles    int            `json:"tiles_per_map"` // of each hunt
	Tick     cairn.Duration `json:"tick"`          // from a map to the next
	Lifetime cairn.Duration `json:"lifetime"`      // of a map
	Shards   int            `json:"shards"`        // of each hunt; 0 means as many as it takes

	Regions   int            `json:"regions"`   // over which a hunt's tiles are spread evenly
	InView    int            `json:"in_view"`   // of them that a client watches
	Standings bool           `json:"standings"` // a client watches standings too
	Boards    int            `json:"boards"`    // that change with nearly every claim and that a client is told of
	Sweep     cairn.Duration `json:"sweep"`     // the knob
	Codec     string         `json:"codec"`     // json or proto
	Mean      float64        `json:"mean"`      // a month's mean load as a share of the peak, above 0 to 1
	Names     int            `json:"names"`     // bytes of a claim's player, name and claim id together

	Retention   cairn.Duration `json:"retention"` // of the logs
	LedgerKeeps cairn.Duration `json:"ledger_keeps"`
	Ack         string         `json:"ack"`      // primary, replicas or fsync
	Replicas    int            `json:"replicas"` // of each Redis primary

	Headroom float64 `json:"headroom"` // share of every limit that stays free, 0 to below 1
	Machine  Machine `json:"machine"`
}

// A Machine is what one process of each role may use.
type Machine struct {
	GatewayCores  float64 `json:"gateway_cores"`
	GatewayFiles  int     `json:"gateway_files"`   // limit of open files
	GatewayGbit   float64 `json:"gateway_gbit"`    // a second, outwards
	GatewayMemory float64 `json:"gateway_gb"`      //
	ClaimsCores   float64 `json:"claims_cores"`    //
	FollowerCores float64 `json:"follower_cores"`  // of a leaderboard or rewards process
	RedisMemory   float64 `json:"redis_gb"`        // maxmemory of a node
	RedisClients  int     `json:"redis_clients"`   // maxclients of a node
	LedgerDisk    float64 `json:"ledger_gb"`       // of the database
	ProcessMemory float64 `json:"process_base_gb"` // of a process before it has a connection, map or player
}

// DefaultLoad returns a middling game: ten thousand players on one hunt.
func DefaultLoad() Load {
	return Load{
		Players: 10_000, Connections: 10_000, Attempts: 5_000, Wins: 0.15, Over: "socket",
		Hunts: 1, Tiles: 1000, Tick: cairn.Duration(time.Second), Lifetime: cairn.Duration(30 * time.Second),
		Regions: 32, InView: 1, Standings: true, Boards: 2, Sweep: cairn.Duration(50 * time.Millisecond), Codec: "json", Mean: 0.5, Names: 40,
		Retention: cairn.Duration(6 * time.Hour), LedgerKeeps: cairn.Duration(30 * 24 * time.Hour), Ack: "replicas", Replicas: 2,
		Headroom: 0.3,
		Machine: Machine{
			GatewayCores: 4, GatewayFiles: 1_048_576, GatewayGbit: 5, GatewayMemory: 8, ClaimsCores: 4, FollowerCores: 2,
			RedisMemory: 16, RedisClients: 10_000, LedgerDisk: 2000, ProcessMemory: 0.1,
		},
	}
}

// WinsPerS returns how many tiles are won a second.
func (l *Load) WinsPerS() float64 { return l.Attempts * l.Wins }

// Validate returns a [cairn.FieldError] for each field that can't be, which
// names what would be right.
func (l *Load) Validate() error {
	var errs []error
	wrong := func(field, format string, args ...any) {
		errs = append(errs, &cairn.FieldError{Field: field, Msg: fmt.Sprintf(format, args...)})
	}
	count := func(field string, n, least, most int) {
		if n < least || n > most {
			wrong(field, "is %d; want %d to %d", n, least, most)
		}
	}
	number := func(field string, x, least, most float64) {
		if math.IsNaN(x) || x < least || x > most {
			wrong(field, "is %g; want %g to %g", x, least, most)
		}
	}
	span := func(field string, d cairn.Duration, least, most time.Duration) {
		if d := time.Duration(d); d < least || d > most {
			wrong(field, "is %v; want %v to %v", d, least, most)
		}
	}
	count("players", l.Players, 0, 1e9)
	count("connections", l.Connections, 0, 1e9)
	number("attempts_per_s", l.Attempts, 0, 1e9)
	number("wins", l.Wins, 0, 1)
	count("hunts", l.Hunts, 1, 10_000)
	count("tiles_per_map", l.Tiles, 1, cairn.TilesPerMapMax)
	span("tick", l.Tick, 100*time.Millisecond, time.Hour)
	span("lifetime", l.Lifetime, 100*time.Millisecond, time.Hour)
	count("shards", l.Shards, 0, cairn.ShardsMax)
	count("regions", l.Regions, 1, 1<<20)
	count("in_view", l.InView, 1, 64)
	count("boards", l.Boards, 0, 1000)
	span("sweep", l.Sweep, 5*time.Millisecond, 5*time.Second)
	number("mean", l.Mean, 0.001, 1)
	count("names", l.Names, 0, 64+160+64)
	span("retention", l.Retention, time.Hour, 30*24*time.Hour)
	span("ledger_keeps", l.LedgerKeeps, 24*time.Hour, 10*365*24*time.Hour)
	count("replicas", l.Replicas, 0, 5)
	number("headroom", l.Headroom, 0, 0.95)
	m := &l.Machine
	number("machine.gateway_cores", m.GatewayCores, 0.1, 1024)
	count("machine.gateway_files", m.GatewayFiles, 1024, 1<<30)
	number("machine.gateway_gbit", m.GatewayGbit, 0.001, 1000)
	number("machine.gateway_gb", m.GatewayMemory, 0.1, 24_000)
	number("machine.claims_cores", m.ClaimsCores, 0.1, 1024)
	number("machine.follower_cores", m.FollowerCores, 0.1, 1024)
	number("machine.redis_gb", m.RedisMemory, 0.1, 24_000)
	count("machine.redis_clients", m.RedisClients, 100, 1<<24)
	number("machine.ledger_gb", m.LedgerDisk, 0.1, 1e6)
	number("machine.process_base_gb", m.ProcessMemory, 0.001, 100)
	if l.Codec != "json" && l.Codec != "proto" {
		wrong("codec", "is %q; want json or proto", l.Codec)
	}
	if l.Over != "socket" && l.Over != "http" {
		wrong("attempts_over", "is %q; want socket or http", l.Over)
	}
	if l.Ack != "primary" && l.Ack != "replicas" && l.Ack != "fsync" {
		wrong("ack", "is %q; want primary, replicas or fsync", l.Ack)
	}
	if l.Ack == "replicas" && l.Replicas == 0 {
		wrong("replicas", "is 0, and ack is replicas; want 1 or more, or ack primary or fsync")
	}
	if l.InView > l.Regions {
		wrong("in_view", "is %d of %d regions; want no more than there are", l.InView, l.Regions)
	}
	if most := l.tilesPerS(); len(errs) == 0 && l.WinsPerS() > most {
		wrong("wins", "is %g of %g attempts/s, %g tiles won a second, and only %g appear; want at most %.3g, or more tiles_per_map or hunts", l.Wins, l.Attempts, l.WinsPerS(), most, most/l.Attempts)
	}
	return errors.Join(errs...)
}

// tilesPerS returns how many tiles appear a second.
func (l *Load) tilesPerS() float64 {
	return float64(l.Hunts) * float64(l.Tiles) / time.Duration(l.Tick).Seconds()
}
