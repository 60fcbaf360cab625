package crowd

import (
	"github.com/veltrix/cairn"
)

// An updateKind is what a part of a message is about.
type updateKind uint8

const (
	kindOther     updateKind = iota // nothing that matters here
	kindWelcome                     // begins an epoch
	kindSnapshot                    // all there is to know
	kindDelta                       // what changed in a region
	kindStandings                   // a board
	kindDrain                       // go elsewhere
	kindError                       // what the server finds wrong
	kindJoined                      // a subscription holds
	kindData                        // a publication of a server that is not ours
	kindPing                        // to be answered by what it is
)

// An update is what one part of a message says.
type update struct {
	kind   updateKind
	epoch  string
	region cairn.Cell
	from   uint64 // kindDelta, kindData
	seq    uint64

	maps    []mapUpdate // opened, or all of a snapshot
	closed  []cairn.Tick
	claimed []claim
	boards  []board

	at       cairn.Instant // of the first claim in it; 0 if it is not to be timed
	withinMS int64         // kindDrain
	fault    string        // kindError: its code
}

// unique reports whether hardly anybody else gets the same bytes, so that what
// they mean is not worth remembering.
func (u *update) unique() bool {
	switch u.kind {
	case kindWelcome, kindOther, kindError, kindJoined, kindDrain:
		return true
	}
	return false
}

// A mapUpdate is a map, or the part of it that is in view.
type mapUpdate struct {
	tick          cairn.Tick
	opens, closes cairn.Instant
	tiles         []tile
	claimed       []claim
}

type tile struct {
	index  uint32
	cell   cairn.Cell
	puzzle uint64 // hash of its name
	reward cairn.Micro
}

// A claim says who holds a tile.
type claim struct {
	tick   cairn.Tick
	tile   uint32
	holder uint64 // hash of the player's id and name
}

// A board is one leaderboard as it was sent.
type board struct {
	key  string // window, hour and region
	hash uint64 // of all that it says
}
