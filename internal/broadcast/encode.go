package broadcast

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// The kinds of frames, as they are named in the protocol and in metrics.
const (
	kindDelta     = "delta"
	kindStandings = "standings"
	kindSnapshot  = "snapshot"
)

// A frame is one message, encoded once and shared by all who get it.
type frame struct {
	kind string
	seq  uint64
	ws   []byte // the WebSocket header and then the JSON
	json []byte // the end of ws

	fresh cairn.Instant // a standings frame's newest claim, if it is the first to have it

	eventOnce sync.Once
	event     []byte // as a Server-Sent Event, made when first needed
}

// headerRoom is what a server's WebSocket header takes at most: no mask.
const headerRoom = ws.MaxHeaderSize - 4

// newFrame puts the WebSocket header before the JSON that stands in b behind
// headerRoom bytes of room. The frame keeps b.
func newFrame(kind string, seq uint64, b []byte) *frame {
	whole := withHeader(ws.OpText, b)
	return &frame{kind: kind, seq: seq, ws: whole, json: b[headerRoom:]}
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

// sse returns the frame as a Server-Sent Event whose id is epoch-seq. All who
// get a frame live in one epoch. It may be called concurrently.
func (f *frame) sse(epoch string) []byte {
	f.eventOnce.Do(func() {
		b := make([]byte, 0, len(f.json)+64)
		b = append(append(b, "id: "...), epoch...)
		b = strconv.AppendUint(append(b, '-'), f.seq, 10)
		b = append(append(b, "\nevent: "...), f.kind...)
		b = append(append(b, "\ndata: "...), f.json...)
		f.event = append(b, "\n\n"...)
	})
	return f.event
}

// appendString appends s as a JSON string.
func appendString[S ~string](b []byte, s S) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			j, err := json.Marshal(string(s))
			if err != nil {
				panic(err) // a string always has a JSON form
			}
			return append(b, j...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendInstant(b []byte, i cairn.Instant) []byte {
	b, _ = i.AppendText(append(b, '"')) // never fails
	return append(b, '"')
}

func appendCell(b []byte, c cairn.Cell) []byte {
	b, _ = c.AppendText(append(b, '"')) // never fails
	return append(b, '"')
}

func appendPlayer(b []byte, id cairn.PlayerID, name string) []byte {
	b = appendString(append(b, `"player":`...), id)
	return appendString(append(b, `,"name":`...), name)
}

// appendClaimed appends {"map":…,"tile":…,"player":…,"name":…,"at":…}.
func appendClaimed(b []byte, tick cairn.Tick, tile uint32, h holder) []byte {
	b = strconv.AppendInt(append(b, `{"map":`...), int64(tick), 10)
	b = strconv.AppendUint(append(b, `,"tile":`...), uint64(tile), 10)
	b = append(append(b, ','), h.who.json...)
	return append(appendInstant(append(b, `,"at":`...), h.at), '}')
}

// appendMap appends a map as the API shows it, with the tiles in view, and in
// a snapshot who holds them.
func appendMap(b []byte, m *mapState, regions []cairn.Cell, holders bool) []byte {
	b = appendString(append(b, `{"hunt":`...), m.Hunt)
	b = strconv.AppendInt(append(b, `,"tick":`...), int64(m.Tick), 10)
	b = appendInstant(append(b, `,"opens":`...), m.Opens)
	b = appendInstant(append(b, `,"closes":`...), m.Closes)
	b = strconv.AppendInt(append(b, `,"shards":`...), int64(m.Shards), 10)
	b = append(appendHex(append(b, `,"digest":"`...), m.Digest[:]), '"')
	b = append(appendHex(append(b, `,"prev":"`...), m.Prev[:]), '"')
	b = append(b, `,"tiles":[`...)
	n := len(b)
	m.tilesIn(regions, func(t uint32) {
		tile := &m.Tiles[t]
		b = strconv.AppendUint(append(b, `{"index":`...), uint64(t), 10)
		b = appendCell(append(b, `,"geohash":`...), tile.Cell)
		b = append(append(append(b, `,"puzzle":"`...), tile.Puzzle.String()...), '"')
		b = strconv.AppendInt(append(b, `,"reward":`...), int64(tile.Reward), 10)
		b = append(b, `},`...)
	})
	b = endList(b, n)
	if holders {
		b = append(b, `,"claimed":[`...)
		n = len(b)
		if m.holders != nil {
			m.tilesIn(regions, func(t uint32) {
				if h := m.holders[t]; h.who != nil {
					b = append(appendClaimed(b, m.Tick, t, h), ',')
				}
			})
		}
		b = endList(b, n)
	}
	return append(b, '}')
}

// endList closes a list whose items, each with a comma behind it, begin at
// b[n].
func endList(b []byte, n int) []byte {
	if len(b) > n {
		b = b[:len(b)-1]
	}
	return append(b, ']')
}

func appendHex(b []byte, v []byte) []byte {
	const digits = "0123456789abcdef"
	for _, x := range v {
		b = append(b, digits[x>>4], digits[x&15])
	}
	return b
}

// appendHead appends {"type":…,"hunt":…
func appendHead(b []byte, kind string, hunt cairn.HuntID) []byte {
	b = append(append(append(b, `{"type":"`...), kind...), '"')
	return appendString(append(b, `,"hunt":`...), hunt)
}

// appendDelta appends what r collected since its last delta, as the delta of
// sweep seq.
func appendDelta(b []byte, r *region, seq uint64) []byte {
	b = appendHead(b, kindDelta, r.hunt)
	b = appendCell(append(b, `,"region":`...), r.cell)
	b = strconv.AppendUint(append(b, `,"from":`...), r.last, 10)
	b = strconv.AppendUint(append(b, `,"seq":`...), seq, 10)
	b = append(b, `,"opened":[`...)
	n := len(b)
	one := [1]cairn.Cell{r.cell}
	for _, m := range r.opened {
		b = append(appendMap(b, m, one[:], false), ',')
	}
	b = append(endList(b, n), `,"closed":[`...)
	n = len(b)
	for _, m := range r.closed {
		b = append(strconv.AppendInt(b, int64(m.Tick), 10), ',')
	}
	b = append(endList(b, n), `,"claimed":[`...)
	n = len(b)
	for i := range r.claimed {
		w := &r.claimed[i]
		b = append(appendClaimed(b, w.m.Tick, w.tile, w.holder), ',')
	}
	return append(endList(b, n), '}')
}

// body returns the members of a board as frames have them, cut to rows.
// It may be called concurrently.
func (x *board) body(rows int) []byte {
	x.bodyOnce.Do(func() { x.json = x.encode(rows) })
	return x.json
}

func (x *board) encode(rows int) []byte {
	b := append(append([]byte(nil), `"window":"`...), x.Window.String()...)
	b = append(b, '"')
	if x.Window == wire.WindowHour {
		hour := cairn.Instant(x.Hour * int64(time.Hour/time.Microsecond))
		b = appendInstant(append(b, `,"hour":`...), hour)
	}
	b = appendCell(append(b, `,"region":`...), x.Region)
	b = append(b, `,"as_of":{`...)
	for i, o := range x.AsOf {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, eventlog.Shard(o.Shard)), ':')
		b = appendString(b, o.Offset.String())
	}
	// A version with nothing new in it is late for nobody, however long ago
	// its newest claim is.
	lag := int64(0)
	if x.fresh != 0 {
		lag = max(0, x.Published.Sub(x.fresh).Milliseconds())
	}
	b = strconv.AppendInt(append(b, `},"lag_ms":`...), lag, 10)
	b = strconv.AppendInt(append(b, `,"players":`...), int64(x.Players), 10)
	b = append(b, `,"rows":[`...)
	n := len(b)
	for i := range x.Rows[:min(rows, len(x.Rows))] {
		row := &x.Rows[i]
		b = strconv.AppendInt(append(b, `{"rank":`...), int64(row.Rank), 10)
		b = appendPlayer(append(b, ','), row.Player, row.Name)
		b = strconv.AppendInt(append(b, `,"score":`...), int64(row.Score), 10)
		b = strconv.AppendInt(append(b, `,"claims":`...), int64(row.Claims), 10)
		b = append(b, `},`...)
	}
	return endList(b, n)
}

// frame returns the board as the frame of its sweep. It may be called
// concurrently, once seq is set.
func (x *board) frame(rows int) *frame {
	x.frameOnce.Do(func() {
		body := x.body(rows)
		x.told = newFrame(kindStandings, x.seq, appendStandings(room(len(body)+128), x, x.seq, rows))
		x.told.fresh = x.fresh
	})
	return x.told
}

func appendStandings(b []byte, x *board, seq uint64, rows int) []byte {
	b = appendHead(b, kindStandings, x.Hunt)
	b = strconv.AppendUint(append(b, `,"seq":`...), seq, 10)
	return append(append(append(b, ','), x.body(rows)...), '}')
}

// appendSnapshot appends all that one who watches regions sees of a hunt.
// None of cells lies in another; regions is what the client asked for. boards
// is nil for those who don't watch the standings.
func appendSnapshot(b []byte, hunt cairn.HuntID, seq uint64, regions, cells []cairn.Cell, open []*mapState, boards [][]byte) []byte {
	b = appendHead(b, kindSnapshot, hunt)
	b = strconv.AppendUint(append(b, `,"seq":`...), seq, 10)
	b = append(b, `,"regions":[`...)
	n := len(b)
	for _, c := range regions {
		b = append(appendCell(b, c), ',')
	}
	b = append(endList(b, n), `,"maps":[`...)
	n = len(b)
	for _, m := range open {
		b = append(appendMap(b, m, cells, true), ',')
	}
	b = endList(b, n)
	if boards != nil {
		b = append(b, `,"standings":[`...)
		n = len(b)
		for _, x := range boards {
			b = append(append(append(b, '{'), x...), `},`...)
		}
		b = endList(b, n)
	}
	return append(b, '}')
}

// The frames below are rare: one a connection or an error.

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

// encodeRare returns v as JSON without escaping HTML.
func encodeRare(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // these types always have a JSON form
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
