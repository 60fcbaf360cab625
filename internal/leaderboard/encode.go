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

// An image is a copy of a fold, taken fast while the fold stands still and
// encoded later. The encoding is canonical: equal folds, whatever the order
// they were folded in, are equal bytes.
//
//	magic (8) │ depth │ newest
//	│ count │ (shard │ genesis (16) │ offset │ from │ at │ due
//	│         │ count │ (hunt │ tick │ first │ last │ words │ word (8) …) …) …
//	│ count │ (hunt │ root (8) │ players │ (player │ name) …
//	│         │ boards │ (window (1) │ hour │ region (8) │ newest
//	│                    │ count │ (player's index │ score │ at │ shard │ epoch │ seq │ index │ claims) …) …) …
//	│ SHA-256 of all before (32)
//
// Shards, maps, hunts, players and boards are sorted; the rows of a board
// stand in rank order.
type image struct {
	depth  int
	newest cairn.Instant
	shards []imageShard
	hunts  []imageHunt
}

type imageShard struct {
	shard   int
	genesis [16]byte
	offset  eventlog.Offset
	from    eventlog.Offset
	at, due cairn.Instant
	maps    []imageMap
}

type imageMap struct {
	mapID
	seenMap
}

type imageHunt struct {
	id      cairn.HuntID
	root    cairn.Cell
	players []player // by number
	boards  []imageBoard
}

type imageBoard struct {
	boardID
	newest cairn.Instant
	rows   []ranked
}

const imageMagic = "CAIRNLB\x01"

// image copies f. genesis are the ids of the logs it is the fold of.
func (f *fold) image(genesis map[int][16]byte) *image {
	im := &image{depth: f.depth, newest: f.newest}
	for _, i := range f.order {
		s := &f.shards[i]
		is := imageShard{shard: i, genesis: genesis[i], offset: s.offset, from: s.seen.from, at: s.seen.at, due: s.seen.due}
		for id, m := range s.seen.maps {
			is.maps = append(is.maps, imageMap{id, seenMap{m.first, m.last, slices.Clone(m.bits)}})
		}
		im.shards = append(im.shards, is)
	}
	for _, h := range f.hunts {
		ih := imageHunt{id: h.id, root: h.root, players: make([]player, 0, h.players.n)}
		for i := range h.players.n {
			ih.players = append(ih.players, *h.players.at(i))
		}
		for id, b := range h.boards {
			ib := imageBoard{id, b.newest, make([]ranked, 0, b.players())}
			b.top(b.players(), func(s ranked) { ib.rows = append(ib.rows, s) })
			ih.boards = append(ih.boards, ib)
		}
		im.hunts = append(im.hunts, ih)
	}
	return im
}

// offsets returns how far im has folded each shard.
func (im *image) offsets() map[int]eventlog.Offset {
	out := map[int]eventlog.Offset{}
	for i := range im.shards {
		out[im.shards[i].shard] = im.shards[i].offset
	}
	return out
}

func appendOffset(b []byte, o eventlog.Offset) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, o.Epoch), o.Seq)
}

func appendString[S ~string](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// encode returns the bytes of im, which it sorts.
func (im *image) encode() []byte {
	b := append([]byte(nil), imageMagic...)
	b = binary.AppendVarint(b, int64(im.depth))
	b = binary.AppendVarint(b, int64(im.newest))
	slices.SortFunc(im.shards, func(a, b imageShard) int { return cmp.Compare(a.shard, b.shard) })
	b = binary.AppendUvarint(b, uint64(len(im.shards)))
	for i := range im.shards {
		b = im.shards[i].append(b)
	}
	slices.SortFunc(im.hunts, func(a, b imageHunt) int { return cmp.Compare(a.id, b.id) })
	b = binary.AppendUvarint(b, uint64(len(im.hunts)))
	for i := range im.hunts {
		b = im.hunts[i].append(b)
	}
	return seal(b)
}

// seal appends the hash of b.
func seal(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func (s *imageShard) append(b []byte) []byte {
	b = append(binary.AppendUvarint(b, uint64(s.shard)), s.genesis[:]...)
	b = appendOffset(appendOffset(b, s.offset), s.from)
	b = binary.AppendVarint(binary.AppendVarint(b, int64(s.at)), int64(s.due))
	slices.SortFunc(s.maps, func(a, b imageMap) int {
		return cmp.Or(cmp.Compare(a.hunt, b.hunt), cmp.Compare(a.tick, b.tick))
	})
	b = binary.AppendUvarint(b, uint64(len(s.maps)))
	for i := range s.maps {
		m := &s.maps[i]
		b = binary.AppendVarint(appendString(b, m.hunt), int64(m.tick))
		b = appendOffset(binary.AppendVarint(b, int64(m.first)), m.last)
		b = binary.AppendUvarint(b, uint64(len(m.bits)))
		for _, w := range m.bits {
			b = binary.BigEndian.AppendUint64(b, w)
		}
	}
	return b
}

func (h *imageHunt) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(appendString(b, h.id), uint64(h.root))
	// Players are numbered as they came: number them anew, by id.
	order := make([]uint32, len(h.players))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(i, j uint32) int { return cmp.Compare(h.players[i].id, h.players[j].id) })
	index := make([]uint32, len(order))
	b = binary.AppendUvarint(b, uint64(len(order)))
	for i, no := range order {
		index[no] = uint32(i)
		b = appendString(appendString(b, h.players[no].id), h.players[no].name)
	}
	slices.SortFunc(h.boards, func(a, b imageBoard) int {
		return cmp.Or(cmp.Compare(a.window, b.window), cmp.Compare(a.hour, b.hour), cmp.Compare(a.region, b.region))
	})
	b = binary.AppendUvarint(b, uint64(len(h.boards)))
	for i := range h.boards {
		x := &h.boards[i]
		b = binary.AppendVarint(append(b, byte(x.window)), x.hour)
		b = binary.BigEndian.AppendUint64(b, uint64(x.region))
		b = binary.AppendVarint(b, int64(x.newest))
		b = binary.AppendUvarint(b, uint64(len(x.rows)))
		for j := range x.rows {
			s := &x.rows[j]
			b = binary.AppendUvarint(b, uint64(index[s.player]))
			b = binary.AppendVarint(b, int64(s.key.score()))
			b = binary.AppendVarint(b, int64(s.key.at()))
			b = binary.AppendUvarint(b, uint64(s.last.shard))
			b = binary.AppendUvarint(b, s.last.epoch)
			b = binary.AppendUvarint(b, s.last.seq)
			b = binary.AppendUvarint(b, uint64(s.last.index))
			b = binary.AppendUvarint(b, uint64(s.claims))
		}
	}
	return b
}

// encode returns the canonical bytes of f.
func (f *fold) encode(genesis map[int][16]byte) []byte { return f.image(genesis).encode() }

// shardsOf returns the shards in order.
func shardsOf[V any](m map[int]V) []int { return slices.Sorted(maps.Keys(m)) }
