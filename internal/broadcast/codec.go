package broadcast

import (
	"github.com/gobwas/ws"

	"github.com/veltrix/cairn/internal/wire"
)

// A Codec is the form that the messages of a connection have, for its whole
// life.
type Codec uint8

// The codecs. They differ in form alone: docs/live.md.
const (
	JSON  Codec = iota // a JSON object a text message
	Proto              // a message of live.proto a binary message

	codecs // how many there are
)

var subprotocols = [codecs]string{JSON: "cairn.v1.json", Proto: "cairn.v1.proto"}

// String returns the name of the WebSocket subprotocol that has the codec.
func (c Codec) String() string { return subprotocols[c] }

// CodecOf returns the codec of a WebSocket subprotocol, by its exact name.
func CodecOf(subprotocol string) (Codec, bool) {
	for c, name := range subprotocols {
		if name == subprotocol {
			return Codec(c), true
		}
	}
	return 0, false
}

// opcode is what messages in the codec have, both ways.
func (c Codec) opcode() ws.OpCode {
	if c == Proto {
		return ws.OpBinary
	}
	return ws.OpText
}

// otherKind says that a message is of the kind that the codec does not have.
func (c Codec) otherKind() string {
	if c == Proto {
		return "text message; this subprotocol has binary only"
	}
	return "binary message; this subprotocol has text only"
}

// message returns v as a whole WebSocket frame.
func (c Codec) message(v rareFrame) []byte {
	return withHeader(c.opcode(), c.encoder().appendMessage(room(256), v))
}

// whole returns a payload in the codec as a whole WebSocket frame.
func (c Codec) whole(payload []byte) []byte { return ownFrame(c.opcode(), payload) }

// decode decodes a message of a client. Its errors are *wire.FrameError.
func (c Codec) decode(b []byte) (wire.ClientFrame, error) {
	if c == Proto {
		return wire.DecodeFrameProto(b)
	}
	return wire.DecodeFrame(b)
}

// An encoder appends the payloads of frames in one codec.
type encoder interface {
	// appendDelta appends what r collected since its last delta, as the delta
	// of sweep seq.
	appendDelta(b []byte, r *region, seq uint64) []byte

	// appendBoard appends the members of a board as frames have them, cut to
	// rows.
	appendBoard(b []byte, x *board, rows int) []byte

	// appendStandings appends the frame of a board of which appendBoard
	// made body.
	appendStandings(b []byte, x *board, body []byte) []byte

	// appendSnapshot appends all that one who has the view sees of its hunt:
	// the open maps, and boards as appendBoard made them, nil for those who
	// don't watch the standings.
	appendSnapshot(b []byte, v *view, seq uint64, open []*mapState, boards [][]byte) []byte

	appendMessage(b []byte, v rareFrame) []byte
}

func (c Codec) encoder() encoder {
	if c == Proto {
		return protoForm{}
	}
	return jsonForm{}
}
