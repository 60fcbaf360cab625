package cairn

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestCRC16 checks the vector of the Redis Cluster specification, appendix A,
// and the slots that redis-cli CLUSTER KEYSLOT gives.
func TestCRC16(t *testing.T) {
	for _, tc := range []struct {
		key  string
		crc  uint16
		slot uint16
	}{
		{"123456789", 0x31C3, 12739},
		{"", 0, 0},
		{"foo", 0xaf96, 12182},
		{"oslo-winter/1767225600/417", 0x9d0e, 7438},
	} {
		if got := crc16(0, []byte(tc.key)); got != tc.crc || got%Slots != tc.slot {
			t.Errorf("crc16(%q) = %#04x, slot %d, want %#04x, slot %d", tc.key, got, got%Slots, tc.crc, tc.slot)
		}
	}
}

// TestSlotter: the shortcut over the shared part of the key gives the slot of
// the whole key.
func TestSlotter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref := TileRef{
			Hunt: HuntID(rapid.StringMatching(`[a-z0-9-]{1,80}`).Draw(t, "hunt")),
			Tick: Tick(rapid.Int64().Draw(t, "tick")),
			Tile: rapid.Uint32().Draw(t, "tile"),
		}
		want := crc16(0, []byte(ref.String())) % Slots
		if got := SlotterOf(ref.Hunt, ref.Tick).Slot(ref.Tile); got != want {
			t.Fatalf("slot of %s = %d, want %d", ref, got, want)
		}
	})
}

func TestSlotterAllocates(t *testing.T) {
	hunt, sum := HuntID(strings.Repeat("h", HuntNameBytesMax)), 0
	n := testing.AllocsPerRun(1000, func() { sum += int(SlotterOf(hunt, 1<<62).Slot(65_535)) })
	if n != 0 {
		t.Errorf("SlotterOf and Slot: %v allocations, want 0 (sum %d)", n, sum)
	}
}

// TestShardOf: shards own ranges in order, whose sizes differ by one at most.
func TestShardOf(t *testing.T) {
	for shards := 1; shards <= ShardsMax; shards++ {
		count := make([]int, shards)
		last := 0
		for slot := range uint16(Slots) {
			s := ShardOf(slot, shards)
			if s < last || s > last+1 || s >= shards {
				t.Fatalf("ShardOf(%d, %d) = %d after %d", slot, shards, s, last)
			}
			last = s
			count[s]++
		}
		for s, n := range count {
			if n != Slots/shards && n != Slots/shards+1 {
				t.Fatalf("shard %d of %d has %d slots, want %d or one more", s, shards, n, Slots/shards)
			}
		}
	}
}

// TestTilesSpread: the tiles of a map fall evenly on shards: χ² of 24 shards
// stays below its 99.9th percentile, 49.7, for nearly every map.
func TestTilesSpread(t *testing.T) {
	const shards, tiles, maps = 24, 1000, 200
	uneven := 0
	for m := range maps {
		s := SlotterOf("oslo-winter", Tick(1_767_225_600+m))
		var count [shards]float64
		for i := range uint32(tiles) {
			count[ShardOf(s.Slot(i), shards)]++
		}
		chi := 0.0
		for _, n := range count {
			chi += (n - tiles/shards) * (n - tiles/shards) / (tiles / shards)
		}
		if chi > 49.7 {
			uneven++
		}
	}
	if uneven > 2 {
		t.Errorf("%d of %d maps spread unevenly, want at most 2", uneven, maps)
	}
}

func ExampleShardOf() {
	ref := TileRef{Hunt: "oslo-winter", Tick: 1_767_225_600, Tile: 417}
	slot := SlotterOf(ref.Hunt, ref.Tick).Slot(ref.Tile)
	fmt.Println(ref, slot, ShardOf(slot, 24))
	// Output: oslo-winter/1767225600/417 7438 10
}

func BenchmarkSlot(b *testing.B) {
	s, sum := SlotterOf("oslo-winter", 1_767_225_600), 0
	for i := uint32(0); b.Loop(); i++ {
		sum += int(s.Slot(i & 0xffff))
	}
	_ = sum
}
