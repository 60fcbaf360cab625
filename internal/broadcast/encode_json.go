package broadcast

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

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

// jsonForm implements encoder.
type jsonForm struct{}

func (jsonForm) appendDelta(b []byte, r *region, seq uint64) []byte {
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

// appendBoard appends them without braces.
func (jsonForm) appendBoard(b []byte, x *board, rows int) []byte {
	b = append(append(b, `"window":"`...), x.Window.String()...)
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
	b = strconv.AppendInt(append(b, `},"lag_ms":`...), x.lag(), 10)
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

func (jsonForm) appendStandings(b []byte, x *board, body []byte) []byte {
	b = appendHead(b, kindStandings, x.Hunt)
	b = strconv.AppendUint(append(b, `,"seq":`...), x.seq, 10)
	return append(append(append(b, ','), body...), '}')
}

func (jsonForm) appendSnapshot(b []byte, v *view, seq uint64, open []*mapState, boards [][]byte) []byte {
	b = appendHead(b, kindSnapshot, v.hunt)
	b = strconv.AppendUint(append(b, `,"seq":`...), seq, 10)
	b = append(b, `,"regions":[`...)
	n := len(b)
	for _, c := range v.asked {
		b = append(appendCell(b, c), ',')
	}
	b = append(endList(b, n), `,"maps":[`...)
	n = len(b)
	for _, m := range open {
		b = append(appendMap(b, m, v.cells, true), ',')
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

// appendMessage appends v without escaping HTML.
func (jsonForm) appendMessage(b []byte, v rareFrame) []byte {
	w := bytes.NewBuffer(b)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // these types always have a JSON form
	}
	return bytes.TrimSuffix(w.Bytes(), []byte("\n"))
}
