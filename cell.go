package cairn

import (
	"fmt"
	"strings"
)

// A Cell is a geohash of 0 to 12 characters packed into one word:
//
//	bits 63…4   the characters, five bits each, left-aligned
//	bits  3…0   how many there are
//
// so that a Cell has no pointer, cells of one precision sort as their text
// does, and prefixes are masks. The zero Cell is the whole world.
type Cell uint64

// CellPrecisionMax is the longest geohash a Cell holds.
const CellPrecisionMax = 12

const geohashAlphabet = "0123456789bcdefghjkmnpqrstuvwxyz"

// geohashValue maps a byte to its five bits, or 0xff.
var geohashValue = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range len(geohashAlphabet) {
		t[geohashAlphabet[i]] = byte(i)
	}
	return t
}()

// ParseCell parses a geohash in lower case. The empty string is the world.
func ParseCell(s string) (Cell, error) {
	if len(s) > CellPrecisionMax {
		return 0, fmt.Errorf("geohash %.20q: %d characters, want at most %d", s, len(s), CellPrecisionMax)
	}
	var c Cell
	for i := range len(s) {
		v := geohashValue[s[i]]
		if v == 0xff {
			return 0, fmt.Errorf("geohash %q: character %q is not one of %s", s, s[i], geohashAlphabet)
		}
		c |= Cell(v) << (59 - 5*i)
	}
	return c | Cell(len(s)), nil
}

// CellOfBits returns the cell whose precision×5 bits are the low bits of v, as
// geohash libraries hand out integer geohashes.
func CellOfBits(v uint64, precision int) Cell {
	return Cell(v<<(64-5*precision)) | Cell(precision)
}

// Bits returns the cell's 5×Precision bits, right-aligned.
func (c Cell) Bits() uint64 {
	if c.Precision() == 0 {
		return 0
	}
	return uint64(c) >> (64 - 5*c.Precision())
}

// Precision returns the number of characters, 0 to 12.
func (c Cell) Precision() int { return int(c & 15) }

// Prefix returns the cell of at most n characters that c lies in.
func (c Cell) Prefix(n int) Cell {
	if n >= c.Precision() {
		return c
	}
	return c&^(1<<(64-5*n)-1) | Cell(n)
}

// Contains reports whether d lies in c. A cell contains itself.
func (c Cell) Contains(d Cell) bool {
	return d.Precision() >= c.Precision() && d.Prefix(c.Precision()) == c
}

// AppendText implements encoding.TextAppender: the geohash's characters.
func (c Cell) AppendText(b []byte) ([]byte, error) {
	for i := range c.Precision() {
		b = append(b, geohashAlphabet[c>>(59-5*i)&31])
	}
	return b, nil
}

// String returns the geohash.
func (c Cell) String() string {
	var s strings.Builder
	for i := range c.Precision() {
		s.WriteByte(geohashAlphabet[c>>(59-5*i)&31])
	}
	return s.String()
}

// MarshalText implements encoding.TextMarshaler.
func (c Cell) MarshalText() ([]byte, error) { return c.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Cell) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCell(string(b))
	return err
}
