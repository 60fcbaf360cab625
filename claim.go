package cairn

import (
	"fmt"
	"strconv"
	"time"
)

// ClaimIDBytesMax bounds the claim id that a client may choose.
const ClaimIDBytesMax = 64

// An Attempt is a player's try for a tile. Its natural key is (player, tile):
// the claim id is only data that tells answers apart.
type Attempt struct {
	TileRef
	Player  PlayerID
	Name    string // of the player, for those who watch
	ClaimID string // chosen by the client, at most ClaimIDBytesMax, may be empty
	Answer  string // to the tile's puzzle; empty for tap
	Token   string // handed out with the puzzle; empty for tap
}

// A Claim is an attempt that won: a fact in a shard's log. It carries all that
// those who follow the log need.
type Claim struct {
	TileRef
	Cell   Cell
	Reward Micro
	Player PlayerID
	Name   string
	At     Instant // by the owner's clock, at receipt; never decreases in a shard
	ID     string  // the claim id of the attempt that won
}

// A Place is where a claim stands in the logs: which shard, which record
// (its offset, written as eventlog writes it) and which claim in that record.
// Places of one shard are ordered as the log is.
type Place struct {
	Shard int
	Epoch uint64
	Seq   uint64
	Index int
}

// String returns the place as the public API shows it, such as "7/3-15/4".
func (p Place) String() string { return string(p.AppendTo(nil)) }

// AppendTo appends what String returns.
func (p Place) AppendTo(b []byte) []byte {
	b = strconv.AppendInt(b, int64(p.Shard), 10)
	b = strconv.AppendUint(append(b, '/'), p.Epoch, 10)
	b = strconv.AppendUint(append(b, '-'), p.Seq, 10)
	return strconv.AppendInt(append(b, '/'), int64(p.Index), 10)
}

// ParsePlace parses what String returns.
func ParsePlace(s string) (Place, error) {
	var p Place
	if _, err := fmt.Sscanf(s, "%d/%d-%d/%d", &p.Shard, &p.Epoch, &p.Seq, &p.Index); err != nil || p.String() != s || p.Shard < 0 || p.Index < 0 {
		return Place{}, fmt.Errorf("offset %.40q: want shard/epoch-seq/index, such as 7/3-15/4", s)
	}
	return p, nil
}

// An Outcome is how an attempt ended. Losing a race is an answer, not an error.
type Outcome uint8

// The outcomes. The zero Outcome is none of them.
const (
	Won         Outcome = iota + 1 // a fact in the log
	Gone                           // another holds the tile: a fact in the log
	Wrong                          // the puzzle's answer was wrong
	Closed                         // the tile's map is not open
	UnknownTile                    // no such tile: known to be absent, not just unseen
	Throttled                      // too many tries
	Pending                        // could not be decided yet: ask again
)

var outcomeNames = [...]string{"none", "won", "gone", "wrong", "closed", "unknown_tile", "throttled", "pending"}

// String returns the outcome's name in the public API.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// A Verdict is the answer to an attempt.
type Verdict struct {
	Outcome Outcome

	// Won and Gone: the claim that holds the tile and its place in the log.
	Claim Claim
	Place Place

	Margin       time.Duration // Gone: how much later this attempt came; ≥ 0
	AttemptsLeft int           // Wrong: tries left on this tile
	Opens        Instant       // Closed: when the map opens or opened,
	Closes       Instant       // and when it closes or closed
	RetryAfter   time.Duration // Throttled and Pending: when to ask again
}
