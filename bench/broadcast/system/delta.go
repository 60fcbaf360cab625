//go:build linux

package system

import (
	"fmt"
	"strings"
	"time"

	"github.com/veltrix/cairn"
)

// What deltas are about.
const (
	Hunt   = cairn.HuntID("bench")
	Region = "u4xs" // what everyone watches
)

// DeltaBytes is how long a delta is, without its WebSocket header. Those of
// our gateways differ from it by the digits of their sweeps' numbers.
const DeltaBytes = 260

// Who wins all tiles: names as long as a delta needs to be.
var (
	player = cairn.PlayerID(strings.Repeat("p", 43))
	name   = strings.Repeat("N", 28)
)

// delta returns a delta as the gateway makes them, for peers to send: one claim
// in one region.
func delta(seq uint64, at time.Time) []byte {
	return fmt.Appendf(nil, `{"type":"delta","hunt":%q,"region":%q,"from":%d,"seq":%d,"opened":[],"closed":[],"claimed":[{"map":%d,"tile":%d,"player":%q,"name":%q,"at":%q}]}`,
		Hunt, Region, seq+999, seq+1000, at.Unix(), seq%tiles+10, player, name, cairn.InstantOf(at))
}
