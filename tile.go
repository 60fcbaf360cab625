package cairn

import (
	"fmt"
	"slices"
)

// A PuzzleKind says what a player must solve to claim a tile.
type PuzzleKind uint8

// The puzzle kinds. The numbers are stored in logs: never reuse one.
const (
	Tap    PuzzleKind = 1 // nothing to solve: a pure race
	Cipher PuzzleKind = 2 // unscramble a word
	Lights PuzzleKind = 3 // 5×5 Lights Out
	Echo   PuzzleKind = 4 // repeat six taps on eight pads
	Odd    PuzzleKind = 5 // the off-hue cell among 8×8, three rounds
)

var puzzleKindNames = []string{Tap: "tap", Cipher: "cipher", Lights: "lights", Echo: "echo", Odd: "odd"}

// PuzzleKinds returns every kind, in the order of their numbers.
func PuzzleKinds() []PuzzleKind { return []PuzzleKind{Tap, Cipher, Lights, Echo, Odd} }

// Valid reports whether k is a known kind.
func (k PuzzleKind) Valid() bool { return k >= Tap && k <= Odd }

// String returns the kind's name in the public API.
func (k PuzzleKind) String() string {
	if !k.Valid() {
		return fmt.Sprintf("puzzle kind %d", uint8(k))
	}
	return puzzleKindNames[k]
}

// MarshalText implements encoding.TextMarshaler.
func (k PuzzleKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *PuzzleKind) UnmarshalText(b []byte) error {
	i := slices.Index(puzzleKindNames, string(b))
	if i < int(Tap) {
		return fmt.Errorf("puzzle %.20q: want one of tap, cipher, lights, echo, odd", b)
	}
	*k = PuzzleKind(i)
	return nil
}

// A Tile is one claimable cell of a map.
type Tile struct {
	Cell   Cell
	Reward Micro
	Puzzle PuzzleKind
}

// A MapHeader is all of a map but its tiles.
type MapHeader struct {
	Hunt   HuntID
	Tick   Tick
	Opens  Instant // a tile may be claimed at opens ≤ at < closes
	Closes Instant
	Shards int    // the shards this map's tiles are spread over, for its whole life
	Tiles  int    // how many tiles it has
	Budget Micro  // what was left of the hunt's budget when it was made: an input, so that it can be made again
	Offer  Micro  // Σ rewards of its tiles ≤ Budget
	Prev   Digest // digest of the map emitted before it in this hunt; zero for the first
	Digest Digest // of the canonical bytes of all else (mapgen)
}

// A Map is an immutable treasure map: at most one a tick of a hunt.
type Map struct {
	MapHeader
	Tiles []Tile // index = the tile's number in the API
}

// A TileRef names a tile for ever.
type TileRef struct {
	Hunt HuntID
	Tick Tick
	Tile uint32
}

// String returns "hunt/tick/tile", the key that is hashed to a slot.
func (r TileRef) String() string { return fmt.Sprintf("%s/%d/%d", r.Hunt, r.Tick, r.Tile) }
