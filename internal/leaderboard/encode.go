package leaderboard

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// The encoding of a fold is canonical: equal folds, whatever the order they
// were folded in, are equal bytes.
//
//	magic (8) │ depth │ bound │ newest │ count │ gone hunt …
//	│ count │ (shard │ genesis (16) │ offset │ from │ at │ due
//	│         │ count │ (hunt │ tick │ first │ last │ words │ word (8) …) …) …
//	│ count │ (hunt │ root (8) │ shut (1) │ count │ (player │ name) …
//	│         │ count │ (window (1) │ hour │ levels │ over (1) …
//	│                   │ (count │ (region (8) │ newest
//	│                              │ count │ (player's index │ score │ at │ shard │ epoch │ seq │ index │ claims) …) …) …) …) …
//	│ SHA-256 of all before (32)
//
// Shards, maps, hunts, windows and boards are sorted; players stand in the order
// of their ranks on the hunt's own board, and the rows of every board in theirs.
// The boards of a window are in as many lists as it has levels, and one before
// them, which holds that of the whole hunt.
const imageMagic = "CAIRNLB\x02"

func appendOffset(b []byte, o eventlog.Offset) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, o.Epoch), o.Seq)
}

func appendString[S ~string](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// seal appends the hash of b.
func seal(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func (c *cut) appendHead(b []byte) []byte {
	b = append(b, imageMagic...)
	b = binary.AppendVarint(b, int64(c.fold.depth))
	b = binary.AppendVarint(b, int64(c.fold.bound))
	b = binary.AppendVarint(b, int64(c.newest))
	slices.Sort(c.gone)
	b = binary.AppendUvarint(b, uint64(len(c.gone)))
	for _, id := range c.gone {
		b = appendString(b, id)
	}
	return b
}

func (s *cutShard) appendTo(b []byte, genesis [16]byte) []byte {
	b = append(binary.AppendUvarint(b, uint64(s.shard)), genesis[:]...)
	return append(appendOffset(b, s.offset), s.tiles...)
}

// appendTo appends what s remembers.
func (s *seenTiles) appendTo(b []byte) []byte {
	b = appendOffset(b, s.from)
	b = binary.AppendVarint(binary.AppendVarint(b, int64(s.at)), int64(s.due))
	ids := slices.SortedFunc(maps.Keys(s.maps), func(a, b mapID) int {
		return cmp.Or(cmp.Compare(a.hunt, b.hunt), cmp.Compare(a.tick, b.tick))
	})
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		m := s.maps[id]
		b = binary.AppendVarint(appendString(b, id.hunt), int64(id.tick))
		b = appendOffset(binary.AppendVarint(b, int64(m.first)), m.last)
		b = binary.AppendUvarint(b, uint64(len(m.bits)))
		for _, w := range m.bits {
			b = binary.BigEndian.AppendUint64(b, w)
		}
	}
	return b
}

// appendPlayers appends a hunt's head and its players, which are given by
// number, in the order of the rows of the hunt's own board.
func (h *cutHunt) appendPlayers(b []byte, players []player, rows []ranked) []byte {
	b = binary.BigEndian.AppendUint64(appendString(b, h.id), uint64(h.root))
	b = appendBool(b, h.shut)
	b = binary.AppendUvarint(b, uint64(len(rows)))
	for i := range rows {
		p := &players[rows[i].player]
		b = appendString(appendString(b, p.id), p.name)
	}
	return b
}

func (s *cutSpan) appendHead(b []byte) []byte {
	b = binary.AppendVarint(append(b, byte(s.window)), s.hour)
	b = binary.AppendUvarint(b, uint64(len(s.levels)))
	for i := range s.levels {
		b = appendBool(b, s.levels[i].over)
	}
	return b
}

// appendBoard appends a board. index has each player's place in the hunt's list.
func appendBoard(b []byte, region cairn.Cell, newest cairn.Instant, rows []ranked, index []uint32) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(region))
	b = binary.AppendVarint(b, int64(newest))
	b = binary.AppendUvarint(b, uint64(len(rows)))
	for i := range rows {
		s := &rows[i]
		b = binary.AppendUvarint(b, uint64(index[s.player]))
		b = binary.AppendVarint(b, int64(s.key.score()))
		b = binary.AppendVarint(b, int64(s.key.at()))
		b = binary.AppendUvarint(b, uint64(s.last.shard))
		b = binary.AppendUvarint(b, s.last.epoch)
		b = binary.AppendUvarint(b, s.last.seq)
		b = binary.AppendUvarint(b, uint64(s.last.index))
		b = binary.AppendUvarint(b, uint64(s.claims))
	}
	return b
}

// encode returns the canonical bytes of f, which stands still.
func (f *fold) encode(genesis map[int][16]byte) []byte {
	return f.begin(genesis).encode(func(do func()) { do() })
}

// sortedKeys returns the keys of m in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
