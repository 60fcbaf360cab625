package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// A Window is the span of time that a leaderboard covers.
type Window uint8

// The windows. The numbers are stored: never reuse one.
const (
	WindowHunt Window = 0 // the whole hunt
	WindowHour Window = 1 // one UTC hour, by the claims' at
)

var windowNames = [...]string{"hunt", "hour"}

// String returns the window's name in the public API.
func (w Window) String() string { return windowNames[w] }

// ParseWindow parses what String returns; "" is the hunt.
func ParseWindow(s string) (Window, error) {
	switch s {
	case "", "hunt":
		return WindowHunt, nil
	case "hour":
		return WindowHour, nil
	}
	return 0, fmt.Errorf("is %.20q; want hunt or hour", s)
}

// A BoardKey names one leaderboard.
type BoardKey struct {
	Hunt   cairn.HuntID
	Window Window
	Hour   int64      // WindowHour: hours since the Unix epoch; 0 else
	Region cairn.Cell // the zero Cell is everywhere
}

// A ShardOffset is how far a fold has read one shard's log.
type ShardOffset struct {
	Shard  int
	Offset eventlog.Offset
}

// A Row is one line of a leaderboard.
type Row struct {
	Rank   int
	Player cairn.PlayerID
	Name   string
	Score  cairn.Micro
	Claims int
}

// A Board is the top of a leaderboard with the offsets that it reflects. A
// record of the standings log is one or more of them, one behind the other:
//
//	tag 0x04 │ hunt │ window (1) │ hour │ region (8) │ players │ newest │ published
//	│ count │ (shard │ epoch │ seq) … │ count │ (player │ name │ score │ claims) …
//
// Ranks are not stored: rows are the ranks 1, 2, 3, ….
type Board struct {
	BoardKey
	Players   int           // how many players have a rank
	Newest    cairn.Instant // at of the newest claim that it reflects
	Published cairn.Instant
	AsOf      []ShardOffset // by shard
	Rows      []Row
}

// AppendBoard appends x, as a record of its own or behind others.
func AppendBoard(b []byte, x *Board) []byte {
	b = append(appendString(append(b, tagBoard), x.Hunt), byte(x.Window))
	b = binary.AppendVarint(b, x.Hour)
	b = binary.BigEndian.AppendUint64(b, uint64(x.Region))
	b = binary.AppendUvarint(b, uint64(x.Players))
	b = binary.AppendVarint(b, int64(x.Newest))
	b = binary.AppendVarint(b, int64(x.Published))
	b = binary.AppendUvarint(b, uint64(len(x.AsOf)))
	for _, o := range x.AsOf {
		b = binary.AppendUvarint(b, uint64(o.Shard))
		b = binary.AppendUvarint(b, o.Offset.Epoch)
		b = binary.AppendUvarint(b, o.Offset.Seq)
	}
	b = binary.AppendUvarint(b, uint64(len(x.Rows)))
	for i := range x.Rows {
		row := &x.Rows[i]
		b = appendString(appendString(b, row.Player), row.Name)
		b = binary.AppendVarint(b, int64(row.Score))
		b = binary.AppendUvarint(b, uint64(row.Claims))
	}
	return b
}

// DecodeBoards decodes a record of the standings log.
func DecodeBoards(body []byte) ([]*Board, error) {
	r := reader{b: body}
	var all []*Board
	for len(all) == 0 || len(r.b) > 0 {
		x := r.board()
		if r.err != nil {
			return nil, r.err
		}
		all = append(all, x)
	}
	return all, nil
}

// DecodeBoard decodes what AppendBoard appended, and nothing behind it.
func DecodeBoard(body []byte) (*Board, error) {
	r := reader{b: body}
	x := r.board()
	if err := r.end(); err != nil {
		return nil, err
	}
	return x, nil
}

// board takes a board.
func (r *reader) board() *Board {
	r.tag(tagBoard)
	x := new(Board)
	x.Hunt = cairn.HuntID(r.string("hunt", cairn.HuntNameBytesMax))
	if x.Window = Window(r.byte("window")); x.Window > WindowHour {
		r.fail("unknown window")
	}
	x.Hour = r.int("hour")
	x.Region = r.cell("region")
	x.Players = int(r.uint("players", math.MaxInt32))
	x.Newest = cairn.Instant(r.int("newest"))
	x.Published = cairn.Instant(r.int("published"))
	for range r.count("as_of") {
		o := ShardOffset{Shard: int(r.uint("shard", cairn.ShardsMax-1))}
		o.Offset.Epoch = r.uint("epoch", math.MaxUint64)
		o.Offset.Seq = r.uint("seq", math.MaxUint64)
		if r.err != nil {
			break
		}
		x.AsOf = append(x.AsOf, o)
	}
	for i := range r.count("rows") {
		row := Row{Rank: i + 1}
		row.Player = cairn.PlayerID(r.string("player", cairn.PlayerBytesMax))
		row.Name = r.string("name", 4*cairn.PlayerNameMax)
		row.Score = cairn.Micro(r.int("score"))
		row.Claims = int(r.uint("claims", math.MaxInt32))
		if r.err != nil {
			break
		}
		x.Rows = append(x.Rows, row)
	}
	return x
}

// AppendChange appends the record of a change of the control log: JSON, since
// an operator reads it, and it is rare.
func AppendChange(b []byte, c *cairn.Change) ([]byte, error) {
	j, err := json.Marshal(c)
	if err != nil {
		return b, fmt.Errorf("wire: change of %s: %w", c.Hunt, err)
	}
	return append(b, j...), nil
}

// DecodeChange decodes a record of the control log.
func DecodeChange(body []byte) (cairn.Change, error) {
	var c cairn.Change
	if err := json.Unmarshal(body, &c); err != nil {
		return c, fmt.Errorf("%w: change: %w", ErrMalformed, err)
	}
	return c, nil
}
