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

// message returns a rare frame (a welcomeFrame, pongFrame, drainFrame or
// errorFrame) as a whole WebSocket frame.
func (c Codec) message(v any) []byte { return c.whole(marshal(v)) }

// whole returns a payload in the codec as a whole WebSocket frame.
func (c Codec) whole(payload []byte) []byte { return ownFrame(c.opcode(), payload) }

// decode decodes a message of a client. Its errors are *wire.FrameError.
func (c Codec) decode(b []byte) (wire.ClientFrame, error) { return wire.DecodeFrame(b) }

func (c Codec) appendDelta(b []byte, r *region, seq uint64) []byte { return appendDelta(b, r, seq) }

func (c Codec) appendBoard(b []byte, x *board, rows int) []byte { return appendBoard(b, x, rows) }

func (c Codec) appendStandings(b []byte, x *board, body []byte) []byte {
	return appendStandings(b, x, body)
}

func (c Codec) appendSnapshot(b []byte, v *view, seq uint64, open []*mapState, boards [][]byte) []byte {
	return appendSnapshot(b, v, seq, open, boards)
}
