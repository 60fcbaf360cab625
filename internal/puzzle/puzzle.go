// Package puzzle is what a player must solve to claim a tile: prompts and the
// check of answers.
//
// Nothing is stored. A puzzle is a pure function of a secret key and its
// subject (kind, tile and player), so that an answer is worth nothing to
// another player or on another tile, the same player is asked the same thing
// again however often, and any process with the key can check. docs/puzzles.md
// shows the prompt and the answer of each kind.
package puzzle

import (
	"encoding/json"

	"github.com/veltrix/cairn"
)

// AnswerBytesMax is longer than the longest right answer of any kind; whoever
// takes answers from players may refuse longer ones unseen.
const AnswerBytesMax = 64

// A Keeper makes puzzles and checks answers to them. It holds nothing but the
// key; its methods may be called concurrently.
type Keeper struct {
	prf prf
}

// New returns the Keeper of a key. Keepers of one key are interchangeable,
// in whatever process they are.
func New(key [32]byte) *Keeper { return &Keeper{prf: newPRF(key)} }

// Prompt returns what the player is shown for a tile, as JSON, and the token
// that must come back with the answer; now is the time of issue that the token
// carries ([Issued]). The prompt does not depend on now. For Tap, which asks
// nothing, the prompt is {} and the token empty. The kind must be valid.
func (k *Keeper) Prompt(kind cairn.PuzzleKind, ref cairn.TileRef, player cairn.PlayerID, now cairn.Instant) (prompt json.RawMessage, token string) {
	if kind == cairn.Tap {
		return json.RawMessage("{}"), ""
	}
	s := k.prf.subject(kind, ref, player)
	return promptOf(kind, k.prf.seed(s)), k.prf.token(s, kind, now)
}

// Check reports whether answer solves the player's puzzle on a tile, and token
// is one that [Keeper.Prompt] handed out for it. Any answer and token pass for
// Tap; an unknown kind never passes. It allocates nothing and takes less than
// a microsecond, whatever it is given.
func (k *Keeper) Check(kind cairn.PuzzleKind, ref cairn.TileRef, player cairn.PlayerID, answer, token string) bool {
	if kind == cairn.Tap {
		return true
	}
	if !kind.Valid() || len(answer) > AnswerBytesMax || len(token) != tokenChars ||
		len(ref.Hunt) > cairn.HuntNameBytesMax || len(player) > cairn.PlayerBytesMax {
		return false
	}
	s := k.prf.subject(kind, ref, player)
	return k.prf.tokenOK(s, kind, token) && answers(kind, k.prf.seed(s), answer)
}
