package crowd

import (
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/wire/livepb"
)

// A protoTongue speaks cairn.v1.proto. What it hashes is not equal to what a
// jsonTongue does of the same: a crowd speaks one of them.
type protoTongue struct {
	watch []byte
}

func newProtoTongue(o *Options) (tongue, error) {
	watch, err := proto.Marshal(&livepb.ClientFrame{Frame: &livepb.ClientFrame_Watch{Watch: &livepb.Watch{
		Hunt: string(o.Hunt), Regions: o.Regions, Standings: o.Standings,
	}}})
	return &protoTongue{watch}, err
}

func (t *protoTongue) hello(s *state) [][]byte {
	hello := &livepb.Hello{}
	if s.known {
		hello.Epoch, hello.Seq = s.epoch, s.seq
	}
	b, err := proto.Marshal(&livepb.ClientFrame{Frame: &livepb.ClientFrame_Hello{Hello: hello}})
	if err != nil {
		panic(err) // an epoch that was decoded is UTF-8
	}
	return [][]byte{b, t.watch}
}

func (t *protoTongue) decode(part []byte) (*update, error) {
	var m livepb.ServerFrame
	if err := proto.Unmarshal(part, &m); err != nil {
		return nil, fmt.Errorf("message of %d bytes: %w", len(part), err)
	}
	switch f := m.Frame.(type) {
	case *livepb.ServerFrame_Welcome:
		return &update{kind: kindWelcome, epoch: f.Welcome.Epoch}, nil
	case *livepb.ServerFrame_Snapshot:
		return protoSnapshot(f.Snapshot)
	case *livepb.ServerFrame_Delta:
		return protoDelta(f.Delta)
	case *livepb.ServerFrame_Standings:
		b, err := protoBoard(f.Standings.Board)
		return &update{kind: kindStandings, seq: f.Standings.Seq, boards: []board{b}}, err
	case *livepb.ServerFrame_Drain:
		return &update{kind: kindDrain, withinMS: f.Drain.WithinMs}, nil
	case *livepb.ServerFrame_Error:
		return &update{kind: kindError, fault: f.Error.Code}, nil
	}
	return &update{kind: kindOther}, nil
}

func protoSnapshot(f *livepb.Snapshot) (*update, error) {
	u := &update{kind: kindSnapshot, seq: f.Seq}
	for _, x := range f.Standings {
		b, err := protoBoard(x)
		if err != nil {
			return nil, err
		}
		u.boards = append(u.boards, b)
	}
	var err error
	u.maps, err = protoMaps(f.Maps)
	return u, err
}

func protoDelta(f *livepb.Delta) (*update, error) {
	u := &update{kind: kindDelta, from: f.From, seq: f.Seq, claimed: protoClaims(f.Claimed)}
	for _, n := range f.Closed {
		u.closed = append(u.closed, cairn.Tick(n))
	}
	if len(f.Claimed) > 0 {
		u.at = cairn.Instant(f.Claimed[0].At)
	}
	var err error
	if u.region, err = cairn.ParseCell(f.Region); err != nil {
		return nil, err
	}
	u.maps, err = protoMaps(f.Opened)
	return u, err
}

func protoMaps(from []*livepb.Map) ([]mapUpdate, error) {
	var to []mapUpdate
	for _, m := range from {
		u := mapUpdate{tick: cairn.Tick(m.Tick), opens: cairn.Instant(m.Opens), closes: cairn.Instant(m.Closes), claimed: protoClaims(m.Claimed)}
		for _, t := range m.Tiles {
			cell, err := cairn.ParseCell(t.Geohash)
			if err != nil {
				return nil, err
			}
			u.tiles = append(u.tiles, tile{t.Index, cell, uint64(t.Puzzle), cairn.Micro(t.Reward)})
		}
		to = append(to, u)
	}
	return to, nil
}

func protoClaims(from []*livepb.Claimed) []claim {
	var to []claim
	for _, c := range from {
		to = append(to, claim{cairn.Tick(c.Map), c.Tile, hashHolder(c.Player, c.Name)})
	}
	return to
}

func protoBoard(b *livepb.Board) (board, error) {
	key := b.GetWindow().String() + strconv.FormatInt(b.GetHour(), 10) + "/" + b.GetRegion()
	x := proto.CloneOf(b)
	if x != nil {
		x.LagMs = 0 // how it came about is no part of what it says
	}
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(x)
	return board{key, xxhash.Sum64(text)}, err
}
