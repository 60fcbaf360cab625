package wire

import (
	"testing"

	"github.com/veltrix/cairn"
)

// TestMapFoldOfTrimmedLog begins at each record of a map: the rest of that map
// is passed over, and the next map is whole. In a log that is not trimmed the
// same is an error.
func TestMapFoldOfTrimmedLog(t *testing.T) {
	records := func(tick cairn.Tick) (bodies [][]byte) {
		m := &cairn.Map{MapHeader: cairn.MapHeader{Hunt: "oslo", Tick: tick, Opens: 1, Closes: 2, Shards: 1, Tiles: 2*TilesPerChunk + 1}}
		for i := range m.MapHeader.Tiles {
			m.Tiles = append(m.Tiles, cairn.Tile{Cell: cairn.CellOfBits(uint64(i), 6), Puzzle: cairn.Tap})
		}
		m.Digest = MapDigest(m)
		for first := 0; first < len(m.Tiles); first += TilesPerChunk {
			bodies = append(bodies, AppendMapChunk(nil, m, first))
		}
		return append(bodies, AppendMapHeader(nil, &m.MapHeader))
	}
	first, second := records(1), records(2)
	for cut := 1; cut < len(first); cut++ {
		for _, trimmed := range []bool{true, false} {
			fold := MapFold{Trimmed: trimmed}
			var failed bool
			for _, body := range first[cut:] {
				m, err := fold.Apply(body)
				failed = failed || err != nil
				if m != nil {
					t.Errorf("from record %d: got a map that lacks its beginning", cut)
				}
			}
			if failed == trimmed {
				t.Errorf("from record %d, trimmed %v: got an error: %v, want %v", cut, trimmed, failed, !trimmed)
			}
			var m *cairn.Map
			for _, body := range second {
				var err error
				if m, err = fold.Apply(body); err != nil {
					t.Fatal(err)
				}
			}
			if m == nil || m.Tick != 2 {
				t.Errorf("from record %d: got %v, want the second map", cut, m)
			}
			if _, err := fold.Apply(first[len(first)-1]); err == nil {
				t.Errorf("from record %d: a header without tiles behind a whole map: got no error", cut)
			}
		}
	}
}
