// Package peer claims tiles the way others do it: in PostgreSQL tables, in a
// Lua script or a function on Redis, and with plain commands of Redis. Each is
// what a careful team would run, tuned for this load, so that the comparison
// is one.
//
// A peer is used through [Claimer]:
//
//	c, err := peer.OpenLua(ctx, "127.0.0.1:6379", peer.RedisOptions{})
//	defer c.Close()
//	err = c.Prepare(ctx, &peer.Map{Hunt: "oslo", Tick: 1, Tiles: tiles})
//	err = c.Claim(ctx, attempts, outcomes)
package peer

import "context"

// An Attempt is a player's try for a tile, and what a claim of it records.
type Attempt struct {
	Hunt    string
	Tick    int64
	Tile    uint32
	Player  string
	Reward  int64 // in micro-units
	Geohash string
}

// An Outcome is how an attempt ended.
type Outcome struct {
	Won    bool   // this attempt took the tile; one that came again did not
	Holder string // the player who has the tile; empty where Won
}

// A Tile is one claimable cell of a map.
type Tile struct {
	Geohash string
	Reward  int64 // in micro-units
}

// A Map is what Prepare makes claimable.
type Map struct {
	Hunt  string
	Tick  int64
	Tiles []Tile // index = the tile's number
}

// A Tally is what a store holds, counted by itself.
type Tally struct {
	Tiles  int64 // that have a holder
	Events int64 // claims in the stream, or in the table that stands for it
}

// Stats are what a Claimer counted since it was opened.
type Stats struct {
	Deadlocks     int64 `json:"deadlocks"`     // transactions that PostgreSQL ended as such (40P01)
	Serialization int64 `json:"serialization"` // and those that it could not order (40001)
	Retries       int64 `json:"retries"`       // transactions that were begun again, for either reason
}

// A Claimer takes attempts. Its methods may be called concurrently.
type Claimer interface {
	// Prepare makes the tiles of maps claimable, before any attempt on them.
	Prepare(ctx context.Context, maps ...*Map) error

	// Claim decides a batch of attempts, as one caller has them, and fills out,
	// which must be as long. The peer pipelines them as well as it can. An
	// error leaves open what was decided.
	Claim(ctx context.Context, as []Attempt, out []Outcome) error

	// Tally counts what is claimed. It is slow.
	Tally(ctx context.Context) (Tally, error)

	// Reset forgets all maps and claims. Nothing may be in flight.
	Reset(ctx context.Context) error

	// Stats returns what was counted until now.
	Stats() Stats

	// Close ends the connections. Nothing may be in flight.
	Close() error
}
