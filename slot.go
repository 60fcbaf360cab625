package cairn

import "strconv"

// Slots is the number of hash slots, as a Redis Cluster has them.
const Slots = 16384

// crc16Table is CRC-16/XMODEM (polynomial 0x1021, initial value 0), the CRC of
// the Redis Cluster specification, appendix A.
var crc16Table = func() (t [256]uint16) {
	for i := range t {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		t[i] = crc
	}
	return t
}()

func crc16(crc uint16, b []byte) uint16 {
	for _, c := range b {
		crc = crc<<8 ^ crc16Table[byte(crc>>8)^c]
	}
	return crc
}

// A Slotter gives the hash slots of the tiles of one map. It has folded the
// part of the key that they share, so that a tile costs only its digits.
type Slotter uint16

// SlotterOf returns the Slotter of the map of hunt at tick.
func SlotterOf(hunt HuntID, tick Tick) Slotter {
	var a [96]byte
	b := append(append(a[:0], hunt...), '/')
	b = append(strconv.AppendInt(b, int64(tick), 10), '/')
	return Slotter(crc16(0, b))
}

// Slot returns CRC16("hunt/tick/tile") mod 16384, the tile's hash slot.
func (s Slotter) Slot(tile uint32) uint16 {
	var a [10]byte
	return crc16(uint16(s), strconv.AppendUint(a[:0], uint64(tile), 10)) % Slots
}

// ShardOf returns the shard, 0 ≤ shard < shards, that owns a slot: slots are
// cut into ranges whose sizes differ by one at most.
func ShardOf(slot uint16, shards int) int { return int(slot) * shards / Slots }
