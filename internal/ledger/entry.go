package ledger

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/veltrix/cairn"
)

// A State says what has become of an entry.
type State string

// The states, in the order that an entry passes through them.
const (
	Settled State = "settled" // it counts in its player's balance
	Paid    State = "paid"    // and was paid out
)

// An Entry is the reward of one claim, in the public API's form.
type Entry struct {
	Hunt    cairn.HuntID  `json:"hunt"`
	Map     cairn.Tick    `json:"map"`
	Tile    uint32        `json:"tile"`
	Geohash string        `json:"geohash"`
	Reward  cairn.Micro   `json:"reward"`
	At      cairn.Instant `json:"at"`
	Offset  string        `json:"offset"` // the claim's place in the log, as cairn.Place writes it
	State   State         `json:"state"`
}

// A Row is an entry as it is stored.
type Row struct {
	cairn.TileRef
	Geohash string
	Reward  cairn.Micro
	Player  cairn.PlayerID
	Name    string // of the player, when they claimed
	At      cairn.Instant
	Place   cairn.Place
	State   State
}

// A cursor is the key of the last entry of a page. The next page begins
// behind it, so a page never changes because newer entries came.
type cursor struct {
	at   cairn.Instant
	tile cairn.TileRef
}

// cursorVersion is a cursor's first byte. Change it with the order of Rewards.
const cursorVersion = 1

// String returns c as clients see it: version │ at │ map │ tile │ hunt, in
// varints and the rest, as base64url.
func (c cursor) String() string {
	b := binary.AppendVarint([]byte{cursorVersion}, int64(c.at))
	b = binary.AppendVarint(b, int64(c.tile.Tick))
	b = binary.AppendUvarint(b, uint64(c.tile.Tile))
	return base64.RawURLEncoding.EncodeToString(append(b, c.tile.Hunt...))
}

// parseCursor parses what String returned, and nothing else.
func parseCursor(s string) (cursor, error) {
	bad := fmt.Errorf("%w: %.40q", ErrBadCursor, s)
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) == 0 || b[0] != cursorVersion {
		return cursor{}, bad
	}
	b = b[1:]
	var v [2]int64
	for i := range v {
		x, n := binary.Varint(b)
		if n <= 0 {
			return cursor{}, bad
		}
		v[i], b = x, b[n:]
	}
	tile, n := binary.Uvarint(b)
	if n <= 0 || tile > math.MaxUint32 || cairn.ValidHuntID(cairn.HuntID(b[n:])) != nil {
		return cursor{}, bad
	}
	c := cursor{cairn.Instant(v[0]), cairn.TileRef{Hunt: cairn.HuntID(b[n:]), Tick: cairn.Tick(v[1]), Tile: uint32(tile)}}
	if c.String() != s {
		return cursor{}, bad // another spelling of the same varints or bits
	}
	return c, nil
}
