package redislog

import (
	"strconv"
	"strings"
	"sync"

	"github.com/veltrix/cairn/internal/eventlog"
)

// slots is how many hash slots a Cluster has.
const slots = 1 << 14

// slotOf returns the hash slot of a tag: CRC16 (XMODEM) of it, modulo slots
// (Redis Cluster specification, "Key distribution model").
func slotOf(tag string) int {
	var crc uint16
	for i := range len(tag) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^tag[i]]
	}
	return int(crc % slots)
}

// crcTable is the CRC16 (XMODEM, polynomial 0x1021) of each byte.
var crcTable = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()

// tagOf returns what stands between the braces of a log's key and so decides
// its slot: the name, and for a shard a number behind it, such as "s07.1512",
// that was chosen so that the shards of any hunt spread evenly over any even
// cut of the slots. Left to chance, 12 shards on 3 primaries would be 6, 3 and
// 3, and of 12 primaries five would have none of 24.
//
// A tag never changes: it is where a log's data is.
func tagOf(log eventlog.Name) string {
	digits, ok := strings.CutPrefix(string(log), "s")
	if !ok {
		return string(log)
	}
	shard, err := strconv.Atoi(digits)
	// As eventlog.Shard writes it, told without writing it: this is asked for
	// with every append.
	if err != nil || digits[0] < '0' || len(digits) < 2 || len(digits) > 2 && digits[0] == '0' {
		return string(log)
	}
	if tag, ok := tags.Load(shard); ok {
		return tag.(string)
	}
	tag := shardTag(log, shard)
	tags.Store(shard, tag)
	return tag
}

var tags sync.Map // of shards, by number; finding one takes some 20 µs

// windows is how many equal parts of the slots shards are placed in, one each,
// then two each, and so on: 3·2^n, so that 3, 4, 6, 8, 12, 24, … primaries cut
// none of them.
const windows = 3 << 7

// windowOf returns the window of a shard: the number's digits, the lowest to
// base 3 and all others to base 2, in reverse. So of any 3·2^n shards from a
// multiple of that on, each 3·2^n-th of the slots has one (van der Corput's
// sequence, with a 3).
func windowOf(shard int) int {
	shard %= windows
	width := windows / 3
	w := shard % 3 * width
	for shard /= 3; shard > 0; shard /= 2 {
		width /= 2
		w += shard % 2 * width
	}
	return w
}

// shardTag returns the tag of a shard: of those with a number behind the name
// the first whose slot is in the middle half of the shard's window, for
// primaries' slots may be cut a little off.
func shardTag(log eventlog.Name, shard int) string {
	w := windowOf(shard)
	from, to := (4*w+1)*slots/(4*windows), (4*w+3)*slots/(4*windows)
	tag := append([]byte(log), '.')
	for n := int64(0); ; n++ {
		tag := strconv.AppendInt(tag, n, 10)
		if slot := slotOf(string(tag)); slot >= from && slot < to {
			return string(tag)
		}
	}
}
