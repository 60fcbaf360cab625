package wire

import (
	"encoding/binary"
	"math"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// A Course is where the Map Generator stands with one hunt, a record of the
// maps log that it writes for whoever takes over from it. Others leave it out.
//
//	tag 0x05 │ hunt │ tick │ digest (32) │ left │ settled │ count │
//	(from epoch │ from seq │ read epoch │ read seq) … by shard
type Course struct {
	Hunt    cairn.HuntID
	Tick    cairn.Tick   // of the newest map
	Digest  cairn.Digest // of the newest map
	Left    cairn.Micro  // of the budget, with what all maps up to Tick offer taken off; below 0 after late claims
	Settled cairn.Tick   // what maps up to here offered and nobody claimed is in Left again; those above are still to be settled
	Shards  []CourseShard
}

// A CourseShard is how far the generator has read a shard's log.
type CourseShard struct {
	From eventlog.Offset // all claims of maps above Settled are behind it
	Read eventlog.Offset // all claims up to it are in Left, as far as their maps are settled
}

// AppendCourse appends the record of c.
func AppendCourse(b []byte, c *Course) []byte {
	b = binary.AppendVarint(appendString(append(b, tagCourse), c.Hunt), int64(c.Tick))
	b = append(b, c.Digest[:]...)
	b = binary.AppendVarint(b, int64(c.Left))
	b = binary.AppendVarint(b, int64(c.Settled))
	b = binary.AppendUvarint(b, uint64(len(c.Shards)))
	for _, s := range c.Shards {
		for _, o := range [...]eventlog.Offset{s.From, s.Read} {
			b = binary.AppendUvarint(b, o.Epoch)
			b = binary.AppendUvarint(b, o.Seq)
		}
	}
	return b
}

// DecodeMapsRecord decodes a record of the maps log without putting maps
// together: it returns a map's header, or a course, or neither for a chunk.
func DecodeMapsRecord(body []byte) (*cairn.MapHeader, *Course, error) {
	if len(body) > 0 && body[0] == tagMapChunk {
		return nil, nil, nil
	}
	if len(body) > 0 && body[0] == tagCourse {
		c, err := decodeCourse(body)
		return nil, c, err
	}
	h, err := decodeMapHeader(body)
	if err != nil {
		return nil, nil, err
	}
	return &h, nil, nil
}

func decodeCourse(body []byte) (*Course, error) {
	r := reader{b: body}
	r.tag(tagCourse)
	c := new(Course)
	c.Hunt = cairn.HuntID(r.string("hunt", cairn.HuntNameBytesMax))
	c.Tick = cairn.Tick(r.int("tick"))
	c.Digest = r.digest("digest")
	c.Left = cairn.Micro(r.int("left"))
	c.Settled = cairn.Tick(r.int("settled"))
	for range r.count("shards") {
		var s CourseShard
		for _, o := range [...]*eventlog.Offset{&s.From, &s.Read} {
			o.Epoch = r.uint("epoch", math.MaxUint64)
			o.Seq = r.uint("seq", math.MaxUint64)
		}
		if r.err != nil {
			break
		}
		c.Shards = append(c.Shards, s)
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return c, nil
}
