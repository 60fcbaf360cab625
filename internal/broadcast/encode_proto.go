package broadcast

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
	"github.com/veltrix/cairn/internal/wire/livepb"
)

// The numbers of live.proto's fields, a message a line, in the order of the
// schema.
const (
	frameWelcome, frameSnapshot, frameDelta, frameStandings, frameDrain, frameError, framePong = 1, 2, 3, 4, 6, 7, 8

	welcomeEpoch, welcomeSeq, welcomePlayer, welcomeNow                                 = 1, 2, 3, 4
	snapshotHunt, snapshotSeq, snapshotRegions, snapshotMaps, snapshotStandings         = 1, 2, 3, 4, 5
	deltaHunt, deltaRegion, deltaFrom, deltaSeq, deltaOpened, deltaClosed, deltaClaimed = 1, 2, 3, 4, 5, 6, 7
	mapTick, mapOpens, mapCloses, mapShards, mapDigest, mapPrev, mapTiles, mapClaimed   = 1, 2, 3, 4, 5, 6, 7, 8
	tileIndex, tileGeohash, tilePuzzle, tileReward                                      = 1, 2, 3, 4
	claimedMap, claimedTile, claimedPlayer, claimedName, claimedAt                      = 1, 2, 3, 4, 5
	standingsHunt, standingsSeq, standingsBoard                                         = 1, 2, 3
	boardWindow, boardHour, boardRegion, boardAsOf, boardLagMS, boardPlayers, boardRows = 1, 2, 3, 4, 5, 6, 7
	rowRank, rowPlayer, rowName, rowScore, rowClaims                                    = 1, 2, 3, 4, 5
	drainWithinMS                                                                       = 1
	errorCode, errorDetail, errorID                                                     = 1, 2, 3
	pongSeq, pongNow                                                                    = 1, 2
	entryKey, entryValue                                                                = 1, 2 // of every map
)

// protoForm implements encoder.
type protoForm struct{}

func (protoForm) appendDelta(b []byte, r *region, seq uint64) []byte {
	b, frame := livepb.Begin(b, frameDelta, cap(b)-len(b))
	b = livepb.AppendString(b, deltaHunt, r.hunt)
	if r.cell != 0 {
		b = appendCellProto(b, deltaRegion, r.cell)
	}
	b = livepb.AppendUint(b, deltaFrom, r.last)
	b = livepb.AppendUint(b, deltaSeq, seq)
	one := [1]cairn.Cell{r.cell}
	for _, m := range r.opened {
		b = appendMapProto(b, deltaOpened, m, one[:], false)
	}
	if len(r.closed) > 0 {
		var closed livepb.Mark
		b, closed = livepb.Begin(b, deltaClosed, 5*len(r.closed))
		for _, m := range r.closed {
			b = protowire.AppendVarint(b, uint64(m.Tick))
		}
		b = closed.End(b)
	}
	for i := range r.claimed {
		w := &r.claimed[i]
		b = appendClaimedProto(b, deltaClaimed, w.m.Tick, w.tile, w.holder)
	}
	return frame.End(b)
}

func (protoForm) appendBoard(b []byte, x *board, rows int) []byte {
	b = livepb.AppendUint(b, boardWindow, uint64(x.Window)+1)
	if x.Window == wire.WindowHour {
		b = livepb.AppendInt(b, boardHour, x.Hour*int64(time.Hour/time.Microsecond))
	}
	if x.Region != 0 {
		b = appendCellProto(b, boardRegion, x.Region)
	}
	for _, o := range x.AsOf {
		var entry livepb.Mark
		b, entry = livepb.Begin(b, boardAsOf, 16)
		b = livepb.AppendString(b, entryKey, eventlog.Shard(o.Shard))
		b = entry.End(livepb.AppendString(b, entryValue, o.Offset.String()))
	}
	b = livepb.AppendInt(b, boardLagMS, x.lag())
	b = livepb.AppendInt(b, boardPlayers, x.Players)
	for i := range x.Rows[:min(rows, len(x.Rows))] {
		var line livepb.Mark
		row := &x.Rows[i]
		b, line = livepb.Begin(b, boardRows, 64)
		b = livepb.AppendInt(b, rowRank, row.Rank)
		b = livepb.AppendString(b, rowPlayer, row.Player)
		b = livepb.AppendString(b, rowName, row.Name)
		b = livepb.AppendInt(b, rowScore, row.Score)
		b = line.End(livepb.AppendInt(b, rowClaims, row.Claims))
	}
	return b
}

func (protoForm) appendStandings(b []byte, x *board, body []byte) []byte {
	b, frame := livepb.Begin(b, frameStandings, len(body)+len(x.Hunt)+8)
	b = livepb.AppendString(b, standingsHunt, x.Hunt)
	b = livepb.AppendUint(b, standingsSeq, x.seq)
	return frame.End(livepb.AppendItem(b, standingsBoard, body))
}

func (protoForm) appendSnapshot(b []byte, v *view, seq uint64, open []*mapState, boards [][]byte) []byte {
	b, frame := livepb.Begin(b, frameSnapshot, cap(b)-len(b))
	b = livepb.AppendString(b, snapshotHunt, v.hunt)
	b = livepb.AppendUint(b, snapshotSeq, seq)
	for _, c := range v.asked {
		b = appendCellProto(b, snapshotRegions, c)
	}
	for _, m := range open {
		b = appendMapProto(b, snapshotMaps, m, v.cells, true)
	}
	for _, x := range boards {
		b = livepb.AppendItem(b, snapshotStandings, x)
	}
	return frame.End(b)
}

func (protoForm) appendMessage(b []byte, v rareFrame) []byte { return v.appendProto(b) }

// appendCellProto appends a geohash, be it empty.
func appendCellProto(b []byte, field protowire.Number, c cairn.Cell) []byte {
	b, _ = c.AppendText(livepb.AppendLength(b, field, c.Precision())) // never fails
	return b
}

func appendClaimedProto(b []byte, field protowire.Number, tick cairn.Tick, tile uint32, h holder) []byte {
	b, claimed := livepb.Begin(b, field, 64)
	b = livepb.AppendInt(b, claimedMap, tick)
	b = livepb.AppendUint(b, claimedTile, uint64(tile))
	b = livepb.AppendString(b, claimedPlayer, h.who.id)
	b = livepb.AppendString(b, claimedName, h.who.name)
	return claimed.End(livepb.AppendInt(b, claimedAt, h.at))
}

// appendMapProto appends what [appendMap] does.
func appendMapProto(b []byte, field protowire.Number, m *mapState, regions []cairn.Cell, holders bool) []byte {
	b, whole := livepb.Begin(b, field, 128+20*len(m.Tiles))
	b = livepb.AppendInt(b, mapTick, m.Tick)
	b = livepb.AppendInt(b, mapOpens, m.Opens)
	b = livepb.AppendInt(b, mapCloses, m.Closes)
	b = livepb.AppendInt(b, mapShards, m.Shards)
	b = livepb.AppendString(b, mapDigest, m.Digest[:])
	b = livepb.AppendString(b, mapPrev, m.Prev[:])
	m.tilesIn(regions, func(t uint32) {
		var one livepb.Mark
		tile := &m.Tiles[t]
		b, one = livepb.Begin(b, mapTiles, 20)
		b = livepb.AppendUint(b, tileIndex, uint64(t))
		b = appendCellProto(b, tileGeohash, tile.Cell)
		b = livepb.AppendUint(b, tilePuzzle, uint64(tile.Puzzle))
		b = one.End(livepb.AppendInt(b, tileReward, tile.Reward))
	})
	if holders && m.holders != nil {
		m.tilesIn(regions, func(t uint32) {
			if h := m.holders[t]; h.who != nil {
				b = appendClaimedProto(b, mapClaimed, m.Tick, t, h)
			}
		})
	}
	return whole.End(b)
}

func (f welcomeFrame) appendProto(b []byte) []byte {
	b, frame := livepb.Begin(b, frameWelcome, 64)
	b = livepb.AppendString(b, welcomeEpoch, f.Epoch)
	b = livepb.AppendUint(b, welcomeSeq, f.Seq)
	b = livepb.AppendString(b, welcomePlayer, f.Player)
	return frame.End(livepb.AppendInt(b, welcomeNow, f.Now))
}

func (f pongFrame) appendProto(b []byte) []byte {
	b, frame := livepb.Begin(b, framePong, 64)
	b = livepb.AppendUint(b, pongSeq, f.Seq)
	return frame.End(livepb.AppendInt(b, pongNow, f.Now))
}

func (f drainFrame) appendProto(b []byte) []byte {
	b, frame := livepb.Begin(b, frameDrain, 64)
	return frame.End(livepb.AppendInt(b, drainWithinMS, f.WithinMS))
}

func (f errorFrame) appendProto(b []byte) []byte {
	b, frame := livepb.Begin(b, frameError, 64)
	b = livepb.AppendString(b, errorCode, f.Code)
	b = livepb.AppendString(b, errorDetail, f.Detail)
	return frame.End(livepb.AppendString(b, errorID, f.ID))
}
