// Package history keeps what players were told, and checks it: by porcupine
// (github.com/anishathalye/porcupine), whether what was told of each tile could
// have happened in some order, one thing after the other; and plainly, in the
// words of the invariants, so that a finding can be counted.
package history

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/veltrix/cairn"
)

// A Player is one who plays, as a number from 1. 0 is nobody.
type Player int32

// A Told is what a player was told of one try.
type Told uint8

// What can be told.
const (
	Nothing Told = iota // an error, a time-out, pending: it may or may not have been done
	Won
	Gone
	Closed  // nobody holds it and the map is not open
	Unknown // there is no such tile
)

// String returns a word for it.
func (t Told) String() string {
	return [...]string{"nothing", "won", "gone", "closed", "unknown_tile"}[t]
}

// An Op is one try for a tile, and what was told. Times are nanoseconds of one
// monotonic clock.
type Op struct {
	Call, Return int64
	Tile         uint32
	Told         Told
	Player       Player
	Holder       Player      // Gone: whose it is
	Place        cairn.Place // Won: where it stands in the log
}

// String describes an op for people.
func (o Op) String() string {
	s := fmt.Sprintf("%.3fs-%.3fs player %d: %v", float64(o.Call)/1e9, float64(o.Return)/1e9, o.Player, o.Told)
	switch o.Told {
	case Won:
		s += " at " + o.Place.String()
	case Gone:
		s += fmt.Sprintf(" to player %d", o.Holder)
	}
	return s
}

// A tile is the state of the model: whose it is, and where in the log that is
// known to stand; the zero Place while nobody was told.
type tile struct {
	holder Player
	place  cairn.Place
}

// model says which answers a tile could give, one after the other:
//
//	won      it was nobody's and becomes mine; or it is mine, at the same place
//	gone     it is the named player's, who is not me
//	closed   it is nobody's: its holder would hear won, and others gone
//	unknown  it is nobody's
//	nothing  as won, or as if it had not been asked
var model = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{tile{}} },
	Step: func(state, in, _ any) []any {
		t, op := state.(tile), in.(*Op)
		switch op.Told {
		case Won:
			mine := tile{op.Player, op.Place}
			if t.holder == 0 || t == mine || t == (tile{holder: op.Player}) {
				return []any{mine}
			}
		case Gone:
			if t.holder == op.Holder && t.holder != op.Player && t.holder != 0 {
				return []any{t}
			}
		case Closed, Unknown:
			if t.holder == 0 {
				return []any{t}
			}
		case Nothing:
			if t.holder == 0 {
				return []any{t, tile{holder: op.Player}}
			}
			return []any{t}
		}
		return nil
	},
}).ToModel()

// possible reports whether the ops, all of one tile, could have been answered
// so in some order.
func possible(ops []Op) bool {
	h := make([]porcupine.Operation, len(ops))
	// What nothing was told of may be done at any later time.
	end := int64(0)
	for i := range ops {
		end = max(end, ops[i].Return+1)
	}
	for i := range ops {
		h[i] = porcupine.Operation{ClientId: int(ops[i].Player), Input: &ops[i], Call: ops[i].Call, Return: ops[i].Return}
		if ops[i].Told == Nothing {
			h[i].Return = end
		}
	}
	return porcupine.CheckOperations(model, h)
}
