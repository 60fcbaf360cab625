package wire

import (
	"fmt"

	"github.com/veltrix/cairn"
)

// Bounds of the frames of /v1/live that a client sends.
const (
	FrameBytesMax   = 4 << 10 // a message, put together from its fragments
	WatchRegionsMax = 64      // regions of all hunts that one client watches
	FrameIDBytesMax = 64      // the id that tells a claim's outcome apart
)

// Bounds of a claim, on a socket or over HTTP.
const (
	ClaimTickMax        = 1<<53 - 1 // what every JSON decoder reads exactly
	ClaimAnswerBytesMax = 256       // the longest that any puzzle kind wants is far below
	ClaimTokenBytesMax  = 256       // a puzzle's token
)

// A ClientFrame is what a client says on /v1/live (cairn.v1.json): a
// *HelloFrame, *WatchFrame, *ClaimFrame or *PingFrame.
type ClientFrame interface{ clientFrame() }

// A HelloFrame is a client's first message: who it is, and where it was when
// it lost its connection.
type HelloFrame struct {
	Token string // of the player; empty to watch only
	Epoch string // of the last welcome; empty for a client without a past
	Seq   uint64 // the highest that it saw in that epoch
}

// A WatchFrame says what a client wants to see of one hunt. It replaces what
// the client watched there before; no regions and no standings end it.
type WatchFrame struct {
	Hunt      cairn.HuntID
	Regions   []cairn.Cell // at most WatchRegionsMax
	Standings bool
}

// A ClaimFrame is an attempt sent over the socket.
type ClaimFrame struct {
	ID      string // repeated in the outcome; 1 to FrameIDBytesMax bytes
	Hunt    cairn.HuntID
	Map     cairn.Tick
	Tile    uint32 // below cairn.TilesPerMapMax
	ClaimID string // at most cairn.ClaimIDBytesMax, without control characters; may be empty
	Answer  string // at most ClaimAnswerBytesMax; empty for tap
	Token   string // the puzzle's, at most ClaimTokenBytesMax; empty for tap
}

// A PingFrame asks for a pong: a browser can't send the protocol's own ping.
type PingFrame struct{}

func (*HelloFrame) clientFrame() {}
func (*WatchFrame) clientFrame() {}
func (*ClaimFrame) clientFrame() {}
func (*PingFrame) clientFrame()  {}

// A FrameError says why a client's frame can't be taken.
type FrameError struct {
	Code  string // one of the FrameCode constants
	Field string // which field, if it is one
	Msg   string // what it is and what would be right
	ID    string // of the claim that it is about, if it can be read
}

// Codes of a FrameError, stable in the public API.
const (
	FrameNotUTF8      = "not_utf8"      // not valid UTF-8
	FrameMalformed    = "malformed"     // not one JSON object of the form that frames have
	FrameUnknownType  = "unknown_type"  // no frame of that type
	FrameUnknownField = "unknown_field" // a field that the type does not have, or has already
	FrameMissingField = "missing_field"
	FrameInvalidField = "invalid_field" // of the wrong type or out of range
)

// Error returns "field: message".
func (e *FrameError) Error() string {
	if e.Field == "" {
		return e.Msg
	}
	return fmt.Sprintf("%s: %s", e.Field, e.Msg)
}
