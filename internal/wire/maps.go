package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/veltrix/cairn"
)

// The maps log holds a map as chunks and then its header; only the header
// makes the map exist. Chunks of one map come in order and with nothing else
// between them.
//
//	chunk:  tag 0x02 │ hunt │ tick │ first │ count │ tile … tile
//	tile:   cell (8) │ puzzle (1) │ reward
//	header: tag 0x03 │ hunt │ tick │ opens │ closes │ shards │ tiles │ budget │ offer │ prev (32) │ digest (32)
//
// Between maps there are the courses of hunts too (tag 0x05, [Course]): notes of
// the generator to whoever takes over from it.
//
// A map's digest is the SHA-256 of its header up to and with prev, and then of
// all its tiles, as written here.

// TilesPerChunk is how many tiles a chunk holds, so that one is ≤ 64 KiB.
const TilesPerChunk = 3000

func appendTile(b []byte, t *cairn.Tile) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(t.Cell))
	return binary.AppendVarint(append(b, byte(t.Puzzle)), int64(t.Reward))
}

func appendMapHead(b []byte, h *cairn.MapHeader) []byte {
	b = appendString(append(b, tagMapHeader), h.Hunt)
	for _, v := range [...]int64{int64(h.Tick), int64(h.Opens), int64(h.Closes)} {
		b = binary.AppendVarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(h.Shards))
	b = binary.AppendUvarint(b, uint64(h.Tiles))
	b = binary.AppendVarint(b, int64(h.Budget))
	b = binary.AppendVarint(b, int64(h.Offer))
	return append(b, h.Prev[:]...)
}

// AppendMapHeader appends the record of a map's header.
func AppendMapHeader(b []byte, h *cairn.MapHeader) []byte {
	return append(appendMapHead(b, h), h.Digest[:]...)
}

// AppendMapChunk appends the record of the tiles of m from first on, at most
// TilesPerChunk of them.
func AppendMapChunk(b []byte, m *cairn.Map, first int) []byte {
	tiles := m.Tiles[first:min(first+TilesPerChunk, len(m.Tiles))]
	b = appendString(append(b, tagMapChunk), m.Hunt)
	b = binary.AppendVarint(b, int64(m.Tick))
	b = binary.AppendUvarint(b, uint64(first))
	b = binary.AppendUvarint(b, uint64(len(tiles)))
	for i := range tiles {
		b = appendTile(b, &tiles[i])
	}
	return b
}

// MapDigest returns the digest of m, whatever its Digest field holds.
func MapDigest(m *cairn.Map) cairn.Digest {
	h := sha256.New()
	b := appendMapHead(make([]byte, 0, 4096), &m.MapHeader)
	for i := range m.Tiles {
		if len(b) > 4000 {
			h.Write(b)
			b = b[:0]
		}
		b = appendTile(b, &m.Tiles[i])
	}
	h.Write(b)
	return cairn.Digest(h.Sum(nil))
}

// A MapFold puts maps together from the records of the maps log. The zero
// value is empty. What a writer left unfinished is dropped by the next map.
type MapFold struct {
	// Trimmed says that the log's beginning is gone, so that its first map may
	// lack its first records: what is left of that one is passed over.
	Trimmed bool

	hunt  cairn.HuntID
	tick  cairn.Tick
	tiles []cairn.Tile
}

// Apply folds the body of one Data record. It returns a map when the record
// was the header that completes one, and nil else. A map whose digest does
// not match is an error that wraps ErrMalformed.
func (f *MapFold) Apply(body []byte) (*cairn.Map, error) {
	if len(body) > 0 && body[0] == tagMapChunk {
		return nil, f.chunk(body)
	}
	if len(body) > 0 && body[0] == tagCourse {
		_, err := decodeCourse(body)
		return nil, err
	}
	h, err := decodeMapHeader(body)
	if err != nil {
		return nil, err
	}
	m := &cairn.Map{MapHeader: h, Tiles: f.tiles}
	known := f.hunt == h.Hunt && f.tick == h.Tick && len(f.tiles) == h.Tiles
	cut := f.Trimmed && len(f.tiles) == 0
	*f = MapFold{}
	if !known && cut {
		return nil, nil
	}
	if !known {
		return nil, fmt.Errorf("%w: header of map %s/%d without its %d tiles", ErrMalformed, h.Hunt, h.Tick, h.Tiles)
	}
	if MapDigest(m) != h.Digest {
		return nil, fmt.Errorf("%w: map %s/%d does not match its digest", ErrMalformed, h.Hunt, h.Tick)
	}
	return m, nil
}

func (f *MapFold) chunk(body []byte) error {
	r := reader{b: body}
	r.tag(tagMapChunk)
	hunt := cairn.HuntID(r.string("hunt", cairn.HuntNameBytesMax))
	tick := cairn.Tick(r.int("tick"))
	first := int(r.uint("first", cairn.TilesPerMapMax))
	if f.Trimmed && r.err == nil && first > 0 {
		return nil
	}
	if first == 0 {
		*f = MapFold{hunt: hunt, tick: tick}
	}
	if r.err == nil && (hunt != f.hunt || tick != f.tick || first != len(f.tiles)) {
		r.fail(fmt.Sprintf("chunk %s/%d from %d, want %s/%d from %d", hunt, tick, first, f.hunt, f.tick, len(f.tiles)))
	}
	n := r.count("tiles")
	if first+n > cairn.TilesPerMapMax {
		r.fail("map has too many tiles")
	}
	for range n {
		t := cairn.Tile{Cell: r.cell("cell"), Puzzle: cairn.PuzzleKind(r.byte("puzzle")), Reward: cairn.Micro(r.int("reward"))}
		if !t.Puzzle.Valid() {
			r.fail("unknown puzzle kind")
		}
		if r.err != nil {
			break
		}
		f.tiles = append(f.tiles, t)
	}
	return r.end()
}

func decodeMapHeader(body []byte) (h cairn.MapHeader, err error) {
	r := reader{b: body}
	r.tag(tagMapHeader)
	h.Hunt = cairn.HuntID(r.string("hunt", cairn.HuntNameBytesMax))
	h.Tick = cairn.Tick(r.int("tick"))
	h.Opens = cairn.Instant(r.int("opens"))
	h.Closes = cairn.Instant(r.int("closes"))
	h.Shards = int(r.uint("shards", cairn.ShardsMax))
	h.Tiles = int(r.uint("tiles", cairn.TilesPerMapMax))
	h.Budget = cairn.Micro(r.int("budget"))
	h.Offer = cairn.Micro(r.int("offer"))
	h.Prev = r.digest("prev")
	h.Digest = r.digest("digest")
	if h.Shards == 0 || h.Opens > h.Closes || h.Opens < 0 || h.Closes > math.MaxInt64/2 {
		r.fail("map header is out of range")
	}
	return h, r.end()
}
