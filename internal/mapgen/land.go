package mapgen

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"sync"

	"github.com/veltrix/cairn"
)

//go:generate go run ./landgen -out land.bin.gz

// landPrecision is the precision of the land mask: cells of 4.9 km, and less
// from west to east as they come nearer to a pole.
const landPrecision = 5

//go:embed land.bin.gz
var landFile []byte

// land is the land mask, decoded when it is first needed.
var land = sync.OnceValue(func() *landMask {
	m, err := decodeLand(landFile)
	if err != nil {
		panic(fmt.Sprintf("mapgen: the embedded land mask: %v", err))
	}
	return m
})

// A landMask has a bit for each geohash of landPrecision, in the order of
// their bits: the cells below a shorter geohash are neighbours in it.
type landMask struct {
	words [1 << (5 * landPrecision) / 64]uint64
	sums  [landSums + 1][]uint32 // by precision and bits: how many of the cells below are land
}

// landSums is the finest precision whose counts are kept; below it, a count is
// of at most sixteen words.
const landSums = 3

// decodeLand reads what landgen wrote.
func decodeLand(file []byte) (*landMask, error) {
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	runs, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	m := new(landMask)
	const cells = uint64(len(m.words)) * 64
	at := uint64(0)
	for isLand := false; len(runs) > 0; isLand = !isLand {
		length, n := binary.Uvarint(runs)
		if n <= 0 || length > cells-at {
			return nil, fmt.Errorf("run at cell %d is cut short or runs past cell %d", at, cells)
		}
		if isLand {
			m.set(at, at+length)
		}
		runs, at = runs[n:], at+length
	}
	if at != cells {
		return nil, fmt.Errorf("has %d cells, want %d", at, cells)
	}
	m.sum()
	return m, nil
}

// sum works out the sums.
func (m *landMask) sum() {
	for p := landSums; p >= 0; p-- {
		m.sums[p] = make([]uint32, 1<<(5*p))
		for i := range m.sums[p] {
			if p == landSums {
				of := len(m.words) >> (5 * p)
				for _, w := range m.words[i*of : (i+1)*of] {
					m.sums[p][i] += uint32(bits.OnesCount64(w))
				}
				continue
			}
			for _, n := range m.sums[p+1][i*32 : (i+1)*32] {
				m.sums[p][i] += n
			}
		}
	}
}

// set makes the cells in [from, to) land.
func (m *landMask) set(from, to uint64) {
	for from < to {
		n := min(64-from%64, to-from)
		m.words[from/64] |= (1<<n - 1) << (from % 64)
		from += n
	}
}

// count returns how many of the cells of landPrecision in c are land, and how
// many there are. One cell that c lies in counts for a finer c.
func (m *landMask) count(c cairn.Cell) (isLand, of uint64) {
	c = c.Prefix(landPrecision)
	of = 1 << (5 * (landPrecision - c.Precision()))
	if p := c.Precision(); p <= landSums {
		return uint64(m.sums[p][c.Bits()]), of
	}
	from := c.Bits() * of // 32 cells or one, within a word
	w := m.words[from/64] >> (from % 64) & (1<<of - 1)
	return uint64(bits.OnesCount64(w)), of
}
