package wire

import (
	"encoding/binary"
	"math"

	"github.com/veltrix/cairn"
)

// A record of a shard's log is a batch of claims:
//
//	tag 0x01 │ count │ claim … claim
//	claim: flags │ [hunt │ tick] │ tile │ player │ name │ cell (8) │ reward │ Δat │ id
//
// Flag bit 0 says that hunt and tick are those of the claim before and are left
// out; Δat is the signed difference to the at of the claim before (0 at first).
const claimSameMap = 1

// ClaimBytesMax bounds what one claim takes in a batch.
const ClaimBytesMax = 1 + 2 + cairn.HuntNameBytesMax + 10 + 5 + 2 + cairn.PlayerBytesMax + 2 + 4*cairn.PlayerNameMax + 8 + 10 + 10 + 2 + cairn.ClaimIDBytesMax

// AppendClaims appends the record of a batch. It does not allocate beyond b.
func AppendClaims(b []byte, claims []cairn.Claim) []byte {
	b = binary.AppendUvarint(append(b, tagClaims), uint64(len(claims)))
	var prev cairn.Claim
	for i := range claims {
		c := &claims[i]
		if i > 0 && c.Hunt == prev.Hunt && c.Tick == prev.Tick {
			b = append(b, claimSameMap)
		} else {
			b = appendString(append(b, 0), c.Hunt)
			b = binary.AppendVarint(b, int64(c.Tick))
		}
		b = binary.AppendUvarint(b, uint64(c.Tile))
		b = appendString(b, c.Player)
		b = appendString(b, c.Name)
		b = binary.BigEndian.AppendUint64(b, uint64(c.Cell))
		b = binary.AppendVarint(b, int64(c.Reward))
		b = binary.AppendVarint(b, int64(c.At-prev.At))
		b = appendString(b, c.ID)
		prev.Hunt, prev.Tick, prev.At = c.Hunt, c.Tick, c.At
	}
	return b
}

// DecodeClaims appends the claims of a record to dst and returns it.
func DecodeClaims(dst []cairn.Claim, body []byte) ([]cairn.Claim, error) {
	r := reader{b: body}
	r.tag(tagClaims)
	n := r.count("claims")
	var prev cairn.Claim
	for i := range n {
		var c cairn.Claim
		switch flags := r.byte("flags"); {
		case flags == claimSameMap && i > 0:
			c.Hunt, c.Tick = prev.Hunt, prev.Tick
		case flags == 0:
			c.Hunt = cairn.HuntID(r.string("hunt", cairn.HuntNameBytesMax))
			c.Tick = cairn.Tick(r.int("tick"))
			if i > 0 && c.Hunt == prev.Hunt && c.Tick == prev.Tick {
				r.fail("a claim repeats the map of the one before")
			}
		default:
			r.fail("claim flags are unknown, or the first claim has no map")
		}
		c.Tile = uint32(r.uint("tile", math.MaxUint32))
		c.Player = cairn.PlayerID(r.string("player", cairn.PlayerBytesMax))
		c.Name = r.string("name", 4*cairn.PlayerNameMax)
		c.Cell = r.cell("cell")
		c.Reward = cairn.Micro(r.int("reward"))
		c.At = prev.At + cairn.Instant(r.int("at"))
		c.ID = r.string("claim id", cairn.ClaimIDBytesMax)
		if r.err != nil {
			return dst, r.err
		}
		dst = append(dst, c)
		prev = c
	}
	return dst, r.end()
}

func (r *reader) cell(what string) cairn.Cell {
	if len(r.b) < 8 {
		r.fail(what + " is cut short")
		return 0
	}
	c := cairn.Cell(binary.BigEndian.Uint64(r.b))
	r.b = r.b[8:]
	if c.Precision() > cairn.CellPrecisionMax || cairn.CellOfBits(c.Bits(), c.Precision()) != c {
		r.fail(what + " is not a geohash")
	}
	return c
}
