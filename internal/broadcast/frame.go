package broadcast

import (
	"strconv"
	"sync"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn"
)

// The kinds of frames, as they are named in the protocol and in metrics.
const (
	kindDelta     = "delta"
	kindStandings = "standings"
	kindSnapshot  = "snapshot"
)

// A frame is one message in one codec, encoded once and shared by all who get
// it.
type frame struct {
	kind    string
	seq     uint64
	ws      []byte // the WebSocket header and then the payload
	payload []byte // the end of ws

	fresh cairn.Instant // a standings frame's newest claim, if it is the first to have it

	eventOnce sync.Once
	event     []byte // as a Server-Sent Event, made when first needed
}

// headerRoom is what a server's WebSocket header takes at most: no mask.
const headerRoom = ws.MaxHeaderSize - 4

// newFrame puts the WebSocket header before the payload that stands in b
// behind headerRoom bytes of room. The frame keeps b.
func newFrame(codec Codec, kind string, seq uint64, b []byte) *frame {
	return &frame{kind: kind, seq: seq, ws: withHeader(codec.opcode(), b), payload: b[headerRoom:]}
}

// withHeader returns the part of b that is a whole frame, after it wrote the
// header right before the payload that begins at headerRoom.
func withHeader(op ws.OpCode, b []byte) []byte {
	h := ws.Header{Fin: true, OpCode: op, Length: int64(len(b) - headerRoom)}
	at := headerRoom - ws.HeaderSize(h)
	w := sliceWriter(b[at:at])
	if err := ws.WriteHeader(&w, h); err != nil {
		panic(err) // a header of a length that is known to fit
	}
	return b[at:]
}

type sliceWriter []byte

func (w *sliceWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

// room begins a frame: headerRoom bytes, and capacity for n more.
func room(n int) []byte { return make([]byte, headerRoom, headerRoom+n) }

// ownFrame returns a frame of one connection's own, with its header.
func ownFrame(op ws.OpCode, payload []byte) []byte {
	return withHeader(op, append(room(len(payload)), payload...))
}

// appendFrame appends a payload with its header, unmasked and in one fragment
// (RFC 6455, 5.2).
func appendFrame(b []byte, op ws.OpCode, payload []byte) []byte {
	const fin, short, long = 0x80, 125, 126
	switch n := len(payload); {
	case n <= short:
		b = append(b, fin|byte(op), byte(n))
	case n <= 1<<16-1:
		b = append(b, fin|byte(op), long, byte(n>>8), byte(n))
	default:
		return append(b, ownFrame(op, payload)...)
	}
	return append(b, payload...)
}

// sse returns the frame, which is JSON's, as a Server-Sent Event whose id is
// epoch-seq. All who get a frame live in one epoch. It may be called
// concurrently.
func (f *frame) sse(epoch string) []byte {
	f.eventOnce.Do(func() {
		b := make([]byte, 0, len(f.payload)+64)
		b = append(append(b, "id: "...), epoch...)
		b = strconv.AppendUint(append(b, '-'), f.seq, 10)
		b = append(append(b, "\nevent: "...), f.kind...)
		b = append(append(b, "\ndata: "...), f.payload...)
		f.event = append(b, "\n\n"...)
	})
	return f.event
}

// A rareFrame is one that there is once a connection, or an error: what
// [Codec.message] makes a frame of.
type rareFrame interface {
	appendProto(b []byte) []byte // as a whole ServerFrame
}

type welcomeFrame struct {
	Type   string         `json:"type"`
	Epoch  string         `json:"epoch"`
	Seq    uint64         `json:"seq"`
	Player cairn.PlayerID `json:"player,omitempty"`
	Now    cairn.Instant  `json:"now"`
}

type pongFrame struct {
	Type string        `json:"type"`
	Seq  uint64        `json:"seq"`
	Now  cairn.Instant `json:"now"`
}

type drainFrame struct {
	Type     string `json:"type"`
	WithinMS int64  `json:"within_ms"`
}

type errorFrame struct {
	Type   string `json:"type"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	ID     string `json:"id,omitempty"` // of the claim that it is about
}
