package leaderboard

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// errCheckpoint reports a checkpoint that is not what was written, or was
// written under other options. It is passed over.
var errCheckpoint = errors.New("leaderboard: checkpoint can't be used")

// A decoder takes values off the front of b. The first failure sticks, and
// from then on every value is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", errCheckpoint, what)
	}
	d.b = nil
}

func (d *decoder) uint(what string, most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > most {
		d.fail(what + " is missing or out of range")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int(what string) int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail(what + " is missing")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) take(what string, n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail(what + " is cut short")
		return make([]byte, min(n, 64))
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string(what string) string {
	n := d.uint(what, uint64(len(d.b)))
	if d.err != nil {
		return ""
	}
	return string(d.take(what, n))
}

func (d *decoder) word(what string) uint64 { return binary.BigEndian.Uint64(d.take(what, 8)) }

// count reads the length of a list whose items take at least one byte each.
func (d *decoder) count(what string) int { return int(d.uint(what, uint64(len(d.b)))) }

func (d *decoder) offset(what string) eventlog.Offset {
	return eventlog.Offset{Epoch: d.uint(what, math.MaxUint64), Seq: d.uint(what, math.MaxUint64)}
}

func (d *decoder) instant(what string) cairn.Instant { return cairn.Instant(d.int(what)) }

// checkImage reports whether b is an encoded image, by its magic and hash.
func checkImage(b []byte) error {
	if len(b) < len(imageMagic)+sha256.Size || string(b[:len(imageMagic)]) != imageMagic {
		return fmt.Errorf("%w: not a checkpoint of this version", errCheckpoint)
	}
	body := b[:len(b)-sha256.Size]
	if sum := sha256.Sum256(body); sum != [sha256.Size]byte(b[len(body):]) {
		return fmt.Errorf("%w: its bytes do not match their hash", errCheckpoint)
	}
	return nil
}

// decodeFold returns the fold whose encoding is b, and the ids of the logs it
// is of. Errors wrap errCheckpoint.
func decodeFold(b []byte, r rules) (*fold, map[int][16]byte, error) {
	if err := checkImage(b); err != nil {
		return nil, nil, err
	}
	d := &decoder{b: b[len(imageMagic) : len(b)-sha256.Size]}
	if got := (rules{int(d.int("depth")), int(d.int("bound"))}); got != r {
		return nil, nil, fmt.Errorf("%w: its rules of regional boards are %+v, want %+v", errCheckpoint, got, r)
	}
	f := newFold(r)
	f.newest = d.instant("newest")
	for range d.count("hunts gone") {
		f.gone[cairn.HuntID(d.string("hunt"))] = true
	}
	genesis := map[int][16]byte{}
	for range d.count("shards") {
		i := int(d.uint("shard", cairn.ShardsMax-1))
		genesis[i] = [16]byte(d.take("genesis", 16))
		d.shard(f, i)
		if d.err != nil {
			return nil, nil, d.err
		}
	}
	for range d.count("hunts") {
		d.hunt(f)
		if d.err != nil {
			return nil, nil, d.err
		}
	}
	if len(d.b) > 0 {
		d.fail("bytes too many")
	}
	return f, genesis, d.err
}

func (d *decoder) shard(f *fold, i int) {
	f.advance(i, d.offset("offset"))
	s := &f.shards[i]
	s.seen = seenTiles{from: d.offset("from"), at: d.instant("at"), due: d.instant("due"), maps: map[mapID]*seenMap{}}
	for range d.count("maps") {
		id := mapID{cairn.HuntID(d.string("hunt")), cairn.Tick(d.int("tick"))}
		m := &seenMap{first: d.instant("first"), last: d.offset("last")}
		m.bits = make([]uint64, d.uint("words", cairn.TilesPerMapMax/64))
		for i := range m.bits {
			m.bits[i] = d.word("bits")
		}
		if d.err != nil {
			return
		}
		s.seen.maps[id] = m
	}
}

func (d *decoder) hunt(f *fold) {
	id := cairn.HuntID(d.string("hunt"))
	root := cairn.Cell(d.word("root"))
	if root.Precision() > cairn.CellPrecisionMax || f.gone[id] || f.hunts[id] != nil {
		d.fail("hunt can't be")
		return
	}
	h := f.hunt(id, root)
	h.shut = d.bool("shut")
	for i := range d.count("players") {
		no := h.number(cairn.PlayerID(d.string("player")))
		h.players.at(no).name = d.string("name")
		if no != uint32(i) {
			d.fail("player is there twice")
		}
		if d.err != nil {
			return
		}
	}
	for range d.count("windows") {
		d.span(f, h)
		if d.err != nil {
			return
		}
	}
}

func (d *decoder) bool(what string) bool {
	v := d.take(what, 1)[0]
	if v > 1 {
		d.fail(what + " is out of range")
	}
	return v == 1
}

func (d *decoder) span(f *fold, h *huntFold) {
	w, at := wire.Window(d.take("window", 1)[0]), d.int("hour")
	if w > wire.WindowHour || w == wire.WindowHunt && (at != 0 || h.all != nil) || w == wire.WindowHour && h.hours[at] != nil {
		d.fail("window can't be")
		return
	}
	s := f.span(h, w, at)
	if got := d.count("levels"); got != len(s.levels) {
		d.fail(fmt.Sprintf("it has %d levels, want %d", got, len(s.levels)))
		return
	}
	for i := range s.levels {
		if d.bool("over") {
			s.levels[i] = level{over: true}
		}
	}
	for i := range len(s.levels) + 1 {
		for range d.count("boards") {
			region := cairn.Cell(d.word("region"))
			if d.err == nil && (i == 0 && region != 0 || i > 0 && (region.Precision() != h.root.Precision()+i || !h.root.Contains(region))) {
				d.fail("region is not of its level")
			}
			if d.err != nil {
				return
			}
			d.board(f, h, f.board(s, region))
		}
	}
}

func (d *decoder) board(f *fold, h *huntFold, b *board) {
	if b == nil {
		d.fail("board is of a level that was dropped")
		return
	}
	b.newest = d.instant("newest")
	for range d.count("rows") {
		s := standing{player: uint32(d.uint("player", math.MaxUint32))}
		key := sortKeyOf(cairn.Micro(d.int("score")), d.instant("at"))
		s.last.shard = uint16(d.uint("shard", cairn.ShardsMax-1))
		s.last.epoch = d.uint("epoch", math.MaxUint64)
		s.last.seq = d.uint("seq", math.MaxUint64)
		s.last.index = uint16(d.uint("index", math.MaxUint16))
		s.claims = uint32(d.uint("claims", math.MaxUint32))
		if s.player >= h.players.n || b.has(s.player) {
			d.fail("player is not in the hunt, or twice on the board")
		}
		if d.err != nil {
			return
		}
		b.put(key, s)
		f.grew(b, 1)
	}
}
