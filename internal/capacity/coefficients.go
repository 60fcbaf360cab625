package capacity

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
)

//go:embed coefficients.json
var coefficientsJSON []byte

// Coefficients are what our own parts cost: seconds, bytes and cores, each
// measured. The tag is a coefficient's name in coefficients.json.
type Coefficients struct {
	GatewayIdle    float64 `coefficient:"gateway.idle"`    // cores of a gateway that serves nobody
	GatewayFrame   float64 `coefficient:"gateway.frame"`   // CPU seconds of an attempt's way through a gateway, on a WebSocket
	GatewayRequest float64 `coefficient:"gateway.request"` // or as a request of its own
	GatewayWon     float64 `coefficient:"gateway.won"`     // what a claim that is won adds there
	GatewayWin     float64 `coefficient:"gateway.win"`     // CPU seconds of a claim that each gateway folds
	Delivery       float64 `coefficient:"gateway.delivery"`
	Handshake      float64 `coefficient:"gateway.handshake"` // CPU seconds of a connection that comes
	SocketUser     float64 `coefficient:"gateway.socket"`    // bytes of an idle connection
	SocketKernel   float64 `coefficient:"gateway.socket_kernel"`

	ClaimsIdle    float64 `coefficient:"claims.idle"`
	ClaimsAttempt float64 `coefficient:"claims.attempt"`
	ClaimsWin     float64 `coefficient:"claims.win"`
	ClaimsStandby float64 `coefficient:"claims.standby"` // CPU seconds of a claim that each process keeps warm
	ShardAttempt  float64 `coefficient:"claims.shard_attempt"`
	TileMemory    float64 `coefficient:"claims.tile"` // bytes of a tile that a Book has open

	LeaderboardIdle   float64 `coefficient:"leaderboard.idle"`
	LeaderboardWin    float64 `coefficient:"leaderboard.win"`
	LeaderboardGrowth float64 `coefficient:"leaderboard.growth"` // what each doubling of players beyond some adds to it
	LeaderboardPlayer float64 `coefficient:"leaderboard.player"`
	PublishEvery      float64 `coefficient:"leaderboard.publish"`

	RewardsIdle float64 `coefficient:"rewards.idle"`
	RewardsWin  float64 `coefficient:"rewards.win"`
	LedgerRows  float64 `coefficient:"ledger.rows"`  // a second that one PostgreSQL takes
	LedgerEntry float64 `coefficient:"ledger.entry"` // bytes of an entry on its disk, indexes included

	GeneratorIdle float64 `coefficient:"generator.idle"`
	GeneratorTile float64 `coefficient:"generator.tile"`

	RedisAppend    float64 `coefficient:"redis.append"`  // CPU seconds of an append
	RedisProcess   float64 `coefficient:"redis.process"` // cores that one process' polls and lease take of all nodes together
	RedisEntry     float64 `coefficient:"redis.entry"`   // bytes that an entry takes beside its body
	AppendPrimary  float64 `coefficient:"redis.append_primary"`
	AppendReplicas float64 `coefficient:"redis.append_replicas"`
	AppendFsync    float64 `coefficient:"redis.append_fsync"`

	ClaimRecord float64 `coefficient:"wire.claim"` // bytes of a claim in a log, without its strings
	TileRecord  float64 `coefficient:"wire.tile"`

	JSONClaim    float64 `coefficient:"json.claim"` // bytes of a claim in a delta
	JSONTile     float64 `coefficient:"json.tile"`  // of a tile of a map that opens
	JSONFrame    float64 `coefficient:"json.frame"` // of a delta without any
	JSONBoard    float64 `coefficient:"json.board"`
	JSONOutcome  float64 `coefficient:"json.outcome"` // of an answer
	ProtoOutcome float64 `coefficient:"proto.outcome"`
	ProtoClaim   float64 `coefficient:"proto.claim"`
	ProtoTile    float64 `coefficient:"proto.tile"`
	ProtoFrame   float64 `coefficient:"proto.frame"`
	ProtoBoard   float64 `coefficient:"proto.board"`

	Origins []Origin `json:"-"`
}

// An Origin is a coefficient and where it comes from.
type Origin struct {
	Name    string  `json:"name"`
	What    string  `json:"what"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Machine string  `json:"machine"`
	Commit  string  `json:"commit"`
	Command string  `json:"command"`

	// From says how make coefficients finds a newer value: a file of bench/out
	// and what to pick of it (bench/plan/coefficients.go). Empty for what is
	// copied by hand out of a benchmark's output or a document.
	From string `json:"from,omitempty"`
}

// units are what a value is multiplied by to be in seconds, bytes or cores.
var units = map[string]float64{"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1, "B": 1, "KB": 1e3, "cores": 1, "a second": 1}

// Measured returns the coefficients that are shipped.
func Measured() (*Coefficients, error) { return ParseCoefficients(coefficientsJSON) }

// ParseCoefficients reads a file of coefficients: a JSON list of [Origin], with
// each coefficient exactly once.
func ParseCoefficients(data []byte) (*Coefficients, error) {
	c := &Coefficients{}
	if err := json.Unmarshal(data, &c.Origins); err != nil {
		return nil, fmt.Errorf("coefficients: %w", err)
	}
	to := map[string]*float64{}
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if name := v.Type().Field(i).Tag.Get("coefficient"); name != "" {
			to[name] = v.Field(i).Addr().Interface().(*float64)
		}
	}
	var errs []error
	for _, o := range c.Origins {
		at, known := to[o.Name]
		unit, is := units[o.Unit]
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("coefficients: %q is none, or there twice", o.Name))
			continue
		case !is:
			errs = append(errs, fmt.Errorf("coefficients: %s: its unit is %q; want ns, µs, ms, s, B, KB, cores or a second", o.Name, o.Unit))
		case math.IsNaN(o.Value) || math.IsInf(o.Value, 0) || o.Value < 0:
			errs = append(errs, fmt.Errorf("coefficients: %s: is %g; want 0 or more", o.Name, o.Value))
		case o.What == "" || o.Machine == "" || o.Commit == "" || o.Command == "":
			errs = append(errs, fmt.Errorf("coefficients: %s: lacks its origin; want what, machine, commit and command", o.Name))
		}
		*at = o.Value * unit
		delete(to, o.Name)
	}
	for name := range to {
		errs = append(errs, fmt.Errorf("coefficients: %s is missing", name))
	}
	return c, errors.Join(errs...)
}

// payload is what a client is told, in bytes.
type payload struct{ claim, tile, frame, board, outcome float64 }

func (c *Coefficients) bytesOf(codec string) payload {
	if strings.EqualFold(codec, "proto") {
		return payload{c.ProtoClaim, c.ProtoTile, c.ProtoFrame, c.ProtoBoard, c.ProtoOutcome}
	}
	return payload{c.JSONClaim, c.JSONTile, c.JSONFrame, c.JSONBoard, c.JSONOutcome}
}
