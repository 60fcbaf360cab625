package wire

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

var golden = flag.Bool("golden", false, "write testdata/*.hex anew; logs that exist can then no longer be read")

// checkGolden compares b with a file of hexadecimal lines of 16 bytes.
func checkGolden(t *testing.T, name string, b []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	if *golden {
		var s strings.Builder
		for i := 0; i < len(b); i += 16 {
			s.WriteString(hex.EncodeToString(b[i:min(i+16, len(b))]) + "\n")
		}
		if err := os.WriteFile(path, []byte(s.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := readGolden(t, name); !bytes.Equal(b, want) {
		t.Errorf("%s:\ngot  %x\nwant %x", path, b, want)
	}
}

func readGolden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func cellOf(t testing.TB, s string) cairn.Cell {
	t.Helper()
	c, err := cairn.ParseCell(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func goldenClaims(t testing.TB) []cairn.Claim {
	oslo := cairn.TileRef{Hunt: "oslo-winter", Tick: 1_767_225_600, Tile: 417}
	next, other := oslo, cairn.TileRef{Hunt: "bergen", Tick: -1, Tile: 65_535}
	next.Tile = 3
	return []cairn.Claim{
		{TileRef: oslo, Cell: cellOf(t, "u4xsud"), Reward: 4999, Player: "ana", Name: "Ana Ø", At: 1_767_225_601_000_123, ID: "c-1"},
		{TileRef: next, Cell: cellOf(t, "u4xsu"), Reward: 0, Player: "bo", Name: "Bo", At: 1_767_225_601_000_123},
		{TileRef: other, Reward: cairn.RewardMax, Player: "ana", Name: "Ana Ø", At: 1_767_225_601_000_100, ID: "c-2"},
	}
}

func goldenMap(t testing.TB) *cairn.Map {
	m := &cairn.Map{
		MapHeader: cairn.MapHeader{
			Hunt: "oslo-winter", Tick: 1_767_225_600, Opens: 1_767_225_600_000_000, Closes: 1_767_225_630_000_000,
			Shards: 24, Tiles: 3, Budget: 50_000_000, Offer: 5100, Prev: cairn.Digest{0: 0xaa, 31: 0xbb},
		},
		Tiles: []cairn.Tile{
			{Cell: cellOf(t, "u4xsud"), Reward: 100, Puzzle: cairn.Tap},
			{Cell: cellOf(t, "u4xsue"), Reward: 5000, Puzzle: cairn.Odd},
			{Cell: cellOf(t, "u4xsuf"), Reward: 0, Puzzle: cairn.Lights},
		},
	}
	m.Digest = MapDigest(m)
	return m
}

func goldenBoard(t testing.TB) *Board {
	return &Board{
		BoardKey: BoardKey{Hunt: "oslo-winter", Window: WindowHour, Hour: 490_896, Region: cellOf(t, "u4xs")},
		Players:  1234, Newest: 1_767_225_601_000_123, Published: 1_767_225_601_020_000,
		AsOf: []ShardOffset{{0, eventlog.Offset{Epoch: 1, Seq: 0}}, {7, eventlog.Offset{Epoch: 3, Seq: 1 << 40}}},
		Rows: []Row{{1, "ana", "Ana Ø", 9998, 2}, {2, "bo", "Bo", 0, 1}},
	}
}

// TestGolden pins the bytes of each record: they are stored.
func TestGolden(t *testing.T) {
	claims := goldenClaims(t)
	checkGolden(t, "claims", AppendClaims(nil, claims))
	if got, err := DecodeClaims(nil, readGolden(t, "claims")); err != nil || !cmp.Equal(got, claims) {
		t.Errorf("claims: %v\n%s", err, cmp.Diff(claims, got))
	}

	m := goldenMap(t)
	checkGolden(t, "mapchunk", AppendMapChunk(nil, m, 0))
	checkGolden(t, "mapheader", AppendMapHeader(nil, &m.MapHeader))
	var fold MapFold
	if got, err := fold.Apply(readGolden(t, "mapchunk")); got != nil || err != nil {
		t.Errorf("a chunk made the map %v, %v", got, err)
	}
	if got, err := fold.Apply(readGolden(t, "mapheader")); err != nil || !cmp.Equal(got, m) {
		t.Errorf("map: %v\n%s", err, cmp.Diff(m, got))
	}

	course := testCourse()
	checkGolden(t, "course", AppendCourse(nil, course))
	if _, got, err := DecodeMapsRecord(readGolden(t, "course")); err != nil || !cmp.Equal(got, course) {
		t.Errorf("course: %v\n%s", err, cmp.Diff(course, got))
	}

	board := goldenBoard(t)
	checkGolden(t, "board", AppendBoard(nil, board))
	if got, err := DecodeBoard(readGolden(t, "board")); err != nil || !cmp.Equal(got, board) {
		t.Errorf("board: %v\n%s", err, cmp.Diff(board, got))
	}

	for want, change := range map[string]cairn.Change{
		`"hunt":"oslo-winter","state":"live"}`:      {Hunt: "oslo-winter", State: cairn.Live},
		`"hunt":"oslo-winter","shards":48}`:         {Hunt: "oslo-winter", Shards: 48},
		`"hunt":"oslo-winter","tiles_per_map":500}`: {Hunt: "oslo-winter", TilesPerMap: 500},
		`"knob":"precision","value":"6"}`:           {Knob: "precision", Value: "6"},
	} {
		change.Who, change.When = "eve", 1_767_225_600_000_000
		b, err := AppendChange(nil, &change)
		if want = `{"who":"eve","when":"2026-01-01T00:00:00.000Z",` + want; err != nil || string(b) != want {
			t.Errorf("change is %s, %v, want %s", b, err, want)
		}
	}
}
