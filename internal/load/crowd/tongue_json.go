package crowd

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/veltrix/cairn"
)

// A jsonTongue speaks cairn.v1.json.
type jsonTongue struct {
	watch []byte
}

func newJSONTongue(o *Options) (tongue, error) {
	watch, err := json.Marshal(struct {
		Type      string       `json:"type"`
		Hunt      cairn.HuntID `json:"hunt"`
		Regions   []string     `json:"regions"`
		Standings bool         `json:"standings"`
	}{"watch", o.Hunt, o.Regions, o.Standings})
	return &jsonTongue{watch}, err
}

func (t *jsonTongue) hello(s *state) [][]byte {
	hello := []byte(`{"type":"hello"}`)
	if s.known {
		hello = fmt.Appendf(nil, `{"type":"hello","epoch":%q,"seq":%d}`, s.epoch, s.seq)
	}
	return [][]byte{hello, t.watch}
}

// A jsonFrame is what matters of any message of the server's.
type jsonFrame struct {
	Type     string      `json:"type"`
	Epoch    string      `json:"epoch"`
	Region   cairn.Cell  `json:"region"`
	From     uint64      `json:"from"`
	Seq      uint64      `json:"seq"`
	Maps     []jsonMap   `json:"maps"`
	Opened   []jsonMap   `json:"opened"`
	Closed   []int64     `json:"closed"`
	Claimed  []jsonClaim `json:"claimed"`
	WithinMS int64       `json:"within_ms"`
	Code     string      `json:"code"`

	Standings []boardOf `json:"standings"`
	jsonBoard           // of a standings frame, whose region is Region
}

type jsonMap struct {
	Tick    cairn.Tick    `json:"tick"`
	Opens   cairn.Instant `json:"opens"`
	Closes  cairn.Instant `json:"closes"`
	Claimed []jsonClaim   `json:"claimed"`
	Tiles   []struct {
		Index  uint32      `json:"index"`
		Cell   cairn.Cell  `json:"geohash"`
		Puzzle string      `json:"puzzle"`
		Reward cairn.Micro `json:"reward"`
	} `json:"tiles"`
}

type jsonClaim struct {
	Map    cairn.Tick    `json:"map"`
	Tile   uint32        `json:"tile"`
	Player string        `json:"player"`
	Name   string        `json:"name"`
	At     cairn.Instant `json:"at"`
}

type jsonBoard struct {
	Window  string            `json:"window"`
	Hour    string            `json:"hour"`
	AsOf    map[string]string `json:"as_of"`
	Players int               `json:"players"`
	Rows    json.RawMessage   `json:"rows"`
}

// A boardOf is a board of a snapshot.
type boardOf struct {
	jsonBoard
	Region cairn.Cell `json:"region"`
}

var jsonKinds = map[string]updateKind{
	"welcome": kindWelcome, "snapshot": kindSnapshot, "delta": kindDelta, "standings": kindStandings, "drain": kindDrain, "error": kindError,
}

func (t *jsonTongue) decode(part []byte) (*update, error) {
	var f jsonFrame
	if err := json.Unmarshal(part, &f); err != nil {
		return nil, fmt.Errorf("message %.80q: %w", part, err)
	}
	u := &update{kind: jsonKinds[f.Type], epoch: f.Epoch, region: f.Region, from: f.From, seq: f.Seq, withinMS: f.WithinMS, fault: f.Code}
	for _, n := range f.Closed {
		u.closed = append(u.closed, cairn.Tick(n))
	}
	for i := range f.Maps {
		u.maps = append(u.maps, f.Maps[i].update())
	}
	for i := range f.Opened {
		u.maps = append(u.maps, f.Opened[i].update())
	}
	u.claimed = jsonClaims(f.Claimed)
	switch u.kind {
	case kindDelta:
		if len(f.Claimed) > 0 {
			u.at = f.Claimed[0].At
		}
	case kindSnapshot:
		for i := range f.Standings {
			u.boards = append(u.boards, f.Standings[i].board(f.Standings[i].Region))
		}
	case kindStandings:
		u.boards = []board{f.board(f.Region)}
	}
	return u, nil
}

func (b *jsonBoard) board(region cairn.Cell) board {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err) // what was JSON has a JSON form
	}
	return board{b.Window + b.Hour + "/" + region.String(), xxhash.Sum64(text)}
}

func (m *jsonMap) update() mapUpdate {
	u := mapUpdate{tick: m.Tick, opens: m.Opens, closes: m.Closes, claimed: jsonClaims(m.Claimed)}
	for _, t := range m.Tiles {
		u.tiles = append(u.tiles, tile{t.Index, t.Cell, xxhash.Sum64String(t.Puzzle), t.Reward})
	}
	return u
}

func jsonClaims(from []jsonClaim) []claim {
	var to []claim
	for _, c := range from {
		to = append(to, claim{c.Map, c.Tile, hashHolder(c.Player, c.Name)})
	}
	return to
}

// hashHolder returns the hash of who holds a tile; it is not 0.
func hashHolder(player, name string) uint64 {
	return xxhash.Sum64String(player+"\x00"+name) | 1
}

// A plainTongue understands messages that may have "at", "from" and "seq".
type plainTongue struct{ first [][]byte }

func (t plainTongue) hello(*state) [][]byte { return t.first }

func (t plainTongue) decode(part []byte) (*update, error) {
	u := &update{kind: kindData}
	u.at = firstAt(part)
	var f struct{ From, Seq uint64 }
	if json.Unmarshal(part, &f) == nil {
		u.from, u.seq = f.From, f.Seq
	}
	return u, nil
}

// firstAt returns the first "at" of a text that is JSON; 0 if there is none.
func firstAt(text []byte) cairn.Instant {
	const key = `"at":"`
	i := bytes.Index(text, []byte(key))
	if i < 0 {
		return 0
	}
	text = text[i+len(key):]
	var at cairn.Instant
	if end := bytes.IndexByte(text, '"'); end < 0 || at.UnmarshalText(text[:end]) != nil {
		return 0
	}
	return at
}

// A centrifugeTongue speaks the JSON form of the centrifuge library's protocol,
// whose messages are one JSON object a line.
type centrifugeTongue struct{ first [][]byte }

func (t centrifugeTongue) hello(*state) [][]byte { return t.first }

func (t centrifugeTongue) decode(part []byte) (*update, error) {
	if string(part) == "{}" {
		return &update{kind: kindPing}, nil
	}
	var f struct {
		Subscribe *struct{}
		Error     *struct{ Code int }
		Push      *struct {
			Pub *struct{ Data json.RawMessage }
		}
	}
	if err := json.Unmarshal(part, &f); err != nil {
		return nil, fmt.Errorf("message %.80q: %w", part, err)
	}
	switch {
	case f.Error != nil:
		return &update{kind: kindError, fault: fmt.Sprintf("centrifuge error %d", f.Error.Code)}, nil
	case f.Push != nil && f.Push.Pub != nil:
		return plainTongue{}.decode(f.Push.Pub.Data)
	case f.Subscribe != nil:
		return &update{kind: kindJoined}, nil
	}
	return &update{kind: kindOther}, nil
}
