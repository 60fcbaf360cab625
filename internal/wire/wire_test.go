package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"pgregory.net/rapid"
)

func hunts() *rapid.Generator[cairn.HuntID] {
	return rapid.Map(rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,62}`), func(s string) cairn.HuntID { return cairn.HuntID(s) })
}

func players() *rapid.Generator[cairn.PlayerID] {
	return rapid.Map(rapid.StringN(1, 16, cairn.PlayerBytesMax), func(s string) cairn.PlayerID { return cairn.PlayerID(s) })
}

func playerNames() *rapid.Generator[string] { return rapid.StringN(1, cairn.PlayerNameMax, -1) }

func cells() *rapid.Generator[cairn.Cell] {
	return rapid.Custom(func(t *rapid.T) cairn.Cell {
		n := rapid.IntRange(0, cairn.CellPrecisionMax).Draw(t, "precision")
		return cairn.CellOfBits(rapid.Uint64().Draw(t, "bits"), n)
	})
}

func micros() *rapid.Generator[cairn.Micro] {
	return rapid.Map(rapid.Int64(), func(v int64) cairn.Micro { return cairn.Micro(v) })
}

func instants() *rapid.Generator[cairn.Instant] {
	return rapid.Map(rapid.Int64(), func(v int64) cairn.Instant { return cairn.Instant(v) })
}

// batches draws claims of few maps, as a shard has them.
func batches() *rapid.Generator[[]cairn.Claim] {
	return rapid.Custom(func(t *rapid.T) []cairn.Claim {
		maps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) cairn.TileRef {
			return cairn.TileRef{Hunt: hunts().Draw(t, "hunt"), Tick: cairn.Tick(rapid.Int64().Draw(t, "tick"))}
		}), 1, 3).Draw(t, "maps")
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) cairn.Claim {
			c := cairn.Claim{
				TileRef: rapid.SampledFrom(maps).Draw(t, "map"), Cell: cells().Draw(t, "cell"), Reward: micros().Draw(t, "reward"),
				Player: players().Draw(t, "player"), Name: playerNames().Draw(t, "name"), At: instants().Draw(t, "at"),
				ID: rapid.StringN(0, -1, cairn.ClaimIDBytesMax).Draw(t, "id"),
			}
			c.Tile = rapid.Uint32().Draw(t, "tile")
			return c
		}), 0, 20).Draw(t, "claims")
	})
}

func TestClaimsRoundTrip(t *testing.T) {
	before := goldenClaims(t)[:1]
	rapid.Check(t, func(t *rapid.T) {
		claims := batches().Draw(t, "claims")
		b := AppendClaims([]byte("kept"), claims)
		if !bytes.HasPrefix(b, []byte("kept")) || len(b) > 4+1+3+len(claims)*ClaimBytesMax {
			t.Fatalf("%d claims took %d bytes", len(claims), len(b))
		}
		got, err := DecodeClaims(before[:1:1], b[4:])
		if err != nil || !cmp.Equal(got[0], before[0]) || !cmp.Equal(got[1:], claims, cmpopts.EquateEmpty()) {
			t.Fatalf("%v\n%s", err, cmp.Diff(claims, got[1:]))
		}
	})
}

// TestClaimBytesMax: the bound holds for the largest claim there can be.
func TestClaimBytesMax(t *testing.T) {
	c := cairn.Claim{
		TileRef: cairn.TileRef{Hunt: cairn.HuntID(strings.Repeat("h", cairn.HuntNameBytesMax)), Tick: math.MinInt64, Tile: math.MaxUint32},
		Cell:    math.MaxUint64, Reward: math.MinInt64, Player: cairn.PlayerID(strings.Repeat("p", cairn.PlayerBytesMax)),
		Name: strings.Repeat("𝕏", cairn.PlayerNameMax), At: math.MinInt64, ID: strings.Repeat("i", cairn.ClaimIDBytesMax),
	}
	if n := len(AppendClaims(nil, []cairn.Claim{c})) - 2; n > ClaimBytesMax {
		t.Errorf("the largest claim takes %d bytes, want at most %d", n, ClaimBytesMax)
	}
}

func TestAppendAllocates(t *testing.T) {
	claims, board, m := goldenClaims(t), goldenBoard(t), goldenMap(t)
	buf := make([]byte, 0, 1<<16)
	for name, f := range map[string]func(){
		"AppendClaims":    func() { buf = AppendClaims(buf[:0], claims) },
		"AppendBoard":     func() { buf = AppendBoard(buf[:0], board) },
		"AppendMapChunk":  func() { buf = AppendMapChunk(buf[:0], m, 0) },
		"AppendMapHeader": func() { buf = AppendMapHeader(buf[:0], &m.MapHeader) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// TestCutShort: no record's beginning decodes, nor one with a byte more.
func TestCutShort(t *testing.T) {
	decoders := map[string]func([]byte) error{
		"claims":    func(b []byte) error { _, err := DecodeClaims(nil, b); return err },
		"mapchunk":  func(b []byte) error { _, err := new(MapFold).Apply(b); return err },
		"mapheader": func(b []byte) error { _, err := decodeMapHeader(b); return err },
		"board":     func(b []byte) error { _, err := DecodeBoard(b); return err },
	}
	for name, decode := range decoders {
		b := readGolden(t, name)
		if err := decode(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for n := range b {
			if err := decode(b[:n:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s, the first %d of %d bytes: %v, want ErrMalformed", name, n, len(b), err)
			}
		}
		if err := decode(append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s and a byte: %v, want ErrMalformed", name, err)
		}
		for other := range decoders {
			if other != name && decode(readGolden(t, other)) == nil {
				t.Errorf("the decoder of %s takes %s", name, other)
			}
		}
	}
}

// TestOneEncoding: what could be written in two ways is taken in one.
func TestOneEncoding(t *testing.T) {
	one := goldenClaims(t)[:1]
	good := AppendClaims(nil, one)
	firstSameMap := append([]byte{tagClaims, 1, claimSameMap}, good[3+1+len(one[0].Hunt)+5:]...)
	twice := append(append([]byte{tagClaims, 2}, good[2:]...), good[2:]...)
	for name, b := range map[string][]byte{
		"overlong count":                append([]byte{tagClaims, 0x81, 0}, good[2:]...),
		"overlong zero":                 {tagClaims, 0x80, 0},
		"first claim without map":       firstSameMap,
		"unknown flags":                 append([]byte{tagClaims, 1, 2}, good[3:]...),
		"same map written again":        twice,
		"count beyond the bytes":        append([]byte{tagClaims, 2}, good[2:]...),
		"huge count":                    append([]byte{tagClaims}, binary.AppendUvarint(nil, math.MaxUint64)...),
		"varint beyond 64 bits":         append([]byte{tagClaims}, bytes.Repeat([]byte{0xff}, 11)...),
		"count below what there is":     append([]byte{tagClaims, 0}, good[2:]...),
		"tag of another kind of record": append([]byte{tagBoard}, good[1:]...),
	} {
		if got, err := DecodeClaims(nil, b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v, want ErrMalformed", name, got, err)
		}
	}
}

func maps() *rapid.Generator[*cairn.Map] {
	return rapid.Custom(func(t *rapid.T) *cairn.Map {
		opens := rapid.Int64Range(0, math.MaxInt64/4).Draw(t, "opens")
		m := &cairn.Map{MapHeader: cairn.MapHeader{
			Hunt: hunts().Draw(t, "hunt"), Tick: cairn.Tick(rapid.Int64().Draw(t, "tick")), Opens: cairn.Instant(opens),
			Closes: cairn.Instant(opens + rapid.Int64Range(0, int64(time.Hour)).Draw(t, "life")),
			Shards: rapid.IntRange(1, cairn.ShardsMax).Draw(t, "shards"),
			Budget: micros().Draw(t, "budget"), Offer: micros().Draw(t, "offer"),
			Prev: cairn.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "prev")),
		}}
		m.Tiles = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) cairn.Tile {
			return cairn.Tile{Cell: cells().Draw(t, "cell"), Reward: micros().Draw(t, "reward"), Puzzle: rapid.SampledFrom(cairn.PuzzleKinds()).Draw(t, "puzzle")}
		}), 1, 12).Draw(t, "tiles")
		// Maps of several chunks, without drawing each tile.
		m.Tiles = repeat(m.Tiles, rapid.SampledFrom([]int{1, 1, 1, 300, 1000}).Draw(t, "times"))
		m.MapHeader.Tiles = len(m.Tiles)
		m.Digest = MapDigest(m)
		return m
	})
}

func repeat[T any](s []T, n int) []T {
	out := make([]T, 0, len(s)*n)
	for range n {
		out = append(out, s...)
	}
	return out
}

// records returns the bodies that hold m, in order.
func records(m *cairn.Map) (bodies [][]byte) {
	for first := 0; first < len(m.Tiles); first += TilesPerChunk {
		bodies = append(bodies, AppendMapChunk(nil, m, first))
	}
	return append(bodies, AppendMapHeader(nil, &m.MapHeader))
}

// TestMapRoundTrip: maps that writers left unfinished are dropped, at
// whatever record they broke off, and the ones between come through.
func TestMapRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var fold MapFold
		for range rapid.IntRange(1, 3).Draw(t, "maps") {
			if rapid.Bool().Draw(t, "broken off before") {
				bodies := records(maps().Draw(t, "unfinished"))
				for _, b := range bodies[:rapid.IntRange(0, len(bodies)-1).Draw(t, "records")] {
					if m, err := fold.Apply(b); m != nil || err != nil {
						t.Fatalf("an unfinished map came through: %v, %v", m, err)
					}
				}
			}
			want := maps().Draw(t, "map")
			bodies := records(want)
			for i, b := range bodies {
				if len(b) > eventlog.BodyBytesMax {
					t.Fatalf("record %d has %d bytes, want at most %d", i, len(b), eventlog.BodyBytesMax)
				}
				got, err := fold.Apply(b)
				if err != nil {
					t.Fatalf("record %d of %d: %v", i, len(bodies), err)
				}
				if last := i == len(bodies)-1; last != (got != nil) || last && !cmp.Equal(got, want) {
					t.Fatalf("record %d of %d:\n%s", i, len(bodies), cmp.Diff(want, got))
				}
			}
		}
	})
}

// TestMapFoldRefuses: a header without all its tiles, chunks out of order, and
// tiles that are not the digest's.
func TestMapFoldRefuses(t *testing.T) {
	m := goldenMap(t)
	m.Tiles = repeat(m.Tiles, TilesPerChunk) // three chunks
	m.MapHeader.Tiles = len(m.Tiles)
	m.Digest = MapDigest(m)
	good := records(m)
	other := *m
	other.Tick++
	forged := *m
	forged.Offer++
	for name, bodies := range map[string][][]byte{
		"header alone":              {good[3]},
		"one chunk missing":         {good[0], good[1], good[3]},
		"a middle chunk missing":    {good[0], good[2]},
		"chunk twice":               {good[0], good[1], good[1]},
		"begins in the middle":      {good[1]},
		"another map's chunk":       {good[0], AppendMapChunk(nil, &other, TilesPerChunk)},
		"another map's header":      {good[0], good[1], good[2], AppendMapHeader(nil, &other.MapHeader)},
		"changed header":            {good[0], good[1], good[2], AppendMapHeader(nil, &forged.MapHeader)},
		"nothing":                   {{}},
		"a board":                   {readGolden(t, "board")},
		"an unknown puzzle kind":    {badChunk(t, m, 8, 9)},
		"a cell that is no geohash": {badChunk(t, m, 7, 0x0d)},
	} {
		var fold MapFold
		for i, b := range bodies {
			got, err := fold.Apply(b)
			if last := i == len(bodies)-1; got != nil || last != errors.Is(err, ErrMalformed) {
				t.Errorf("%s: record %d of %d: %v, %v; want ErrMalformed at the last", name, i, len(bodies), got != nil, err)
			}
		}
		// Whatever it met, the fold goes on with the next whole map.
		var got *cairn.Map
		for _, b := range good {
			var err error
			if got, err = fold.Apply(b); err != nil {
				t.Errorf("after %s: %v", name, err)
			}
		}
		if got == nil || got.Digest != m.Digest {
			t.Errorf("after %s: no map", name)
		}
	}
}

// badChunk returns m's first chunk with byte i of its first tile replaced:
// bytes 0…7 are the cell, 8 the puzzle.
func badChunk(t *testing.T, m *cairn.Map, i int, v byte) []byte {
	t.Helper()
	b := AppendMapChunk(nil, m, 0)
	head := len(AppendMapChunk(nil, &cairn.Map{MapHeader: m.MapHeader}, 0)) + 1 // a count of 3000 takes a byte more than one of 0
	b[head+i] = v
	return b
}

// TestDecodeMapHeaderRefuses: a header whose values can't be.
func TestDecodeMapHeaderRefuses(t *testing.T) {
	for name, change := range map[string]func(*cairn.MapHeader){
		"no shards":        func(h *cairn.MapHeader) { h.Shards = 0 },
		"too many shards":  func(h *cairn.MapHeader) { h.Shards = cairn.ShardsMax + 1 },
		"too many tiles":   func(h *cairn.MapHeader) { h.Tiles = cairn.TilesPerMapMax + 1 },
		"closes too early": func(h *cairn.MapHeader) { h.Closes = h.Opens - 1 },
		"opens before all": func(h *cairn.MapHeader) { h.Opens = -1 },
		"closes never":     func(h *cairn.MapHeader) { h.Closes = math.MaxInt64 },
		"hunt too long":    func(h *cairn.MapHeader) { h.Hunt = cairn.HuntID(strings.Repeat("h", 64)) },
	} {
		h := goldenMap(t).MapHeader
		change(&h)
		if _, err := decodeMapHeader(AppendMapHeader(nil, &h)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

// TestMapDigestCovers: no field of a map can change without its digest, its
// Digest aside.
func TestMapDigestCovers(t *testing.T) {
	base := goldenMap(t)
	for name, change := range map[string]func(*cairn.Map){
		"hunt":    func(m *cairn.Map) { m.Hunt = "oslo-winteR" },
		"tick":    func(m *cairn.Map) { m.Tick++ },
		"opens":   func(m *cairn.Map) { m.Opens++ },
		"closes":  func(m *cairn.Map) { m.Closes++ },
		"shards":  func(m *cairn.Map) { m.Shards++ },
		"tiles":   func(m *cairn.Map) { m.MapHeader.Tiles++ },
		"budget":  func(m *cairn.Map) { m.Budget++ },
		"offer":   func(m *cairn.Map) { m.Offer++ },
		"prev":    func(m *cairn.Map) { m.Prev[31]++ },
		"cell":    func(m *cairn.Map) { m.Tiles[2].Cell += 1 << 40 },
		"reward":  func(m *cairn.Map) { m.Tiles[2].Reward++ },
		"puzzle":  func(m *cairn.Map) { m.Tiles[2].Puzzle = cairn.Echo },
		"order":   func(m *cairn.Map) { m.Tiles[0], m.Tiles[1] = m.Tiles[1], m.Tiles[0] },
		"fewer":   func(m *cairn.Map) { m.Tiles = m.Tiles[:2] },
		"another": func(m *cairn.Map) { m.Tiles = append(m.Tiles, m.Tiles[0]) },
	} {
		m := goldenMap(t)
		change(m)
		if MapDigest(m) == base.Digest {
			t.Errorf("%s: the digest is the same", name)
		}
	}
	same := goldenMap(t)
	same.Digest = cairn.Digest{}
	if MapDigest(same) != base.Digest {
		t.Error("the digest covers itself")
	}
}

func boards() *rapid.Generator[*Board] {
	return rapid.Custom(func(t *rapid.T) *Board {
		x := &Board{
			BoardKey: BoardKey{
				Hunt: hunts().Draw(t, "hunt"), Window: rapid.SampledFrom([]Window{WindowHunt, WindowHour}).Draw(t, "window"),
				Hour: rapid.Int64().Draw(t, "hour"), Region: cells().Draw(t, "region"),
			},
			Players: rapid.IntRange(0, math.MaxInt32).Draw(t, "players"),
			Newest:  instants().Draw(t, "newest"), Published: instants().Draw(t, "published"),
		}
		for range rapid.IntRange(0, 5).Draw(t, "offsets") {
			x.AsOf = append(x.AsOf, ShardOffset{
				rapid.IntRange(0, cairn.ShardsMax-1).Draw(t, "shard"),
				eventlog.Offset{Epoch: rapid.Uint64().Draw(t, "epoch"), Seq: rapid.Uint64().Draw(t, "seq")},
			})
		}
		for i := range rapid.IntRange(0, 20).Draw(t, "rows") {
			x.Rows = append(x.Rows, Row{
				i + 1, players().Draw(t, "player"), playerNames().Draw(t, "name"), micros().Draw(t, "score"),
				rapid.IntRange(0, math.MaxInt32).Draw(t, "claims"),
			})
		}
		return x
	})
}

func TestBoardRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := boards().Draw(t, "board")
		got, err := DecodeBoard(AppendBoard(nil, x))
		if err != nil || !cmp.Equal(got, x) {
			t.Fatalf("%v\n%s", err, cmp.Diff(x, got))
		}
	})
}

func TestDecodeBoardRefuses(t *testing.T) {
	for name, change := range map[string]func(*Board){
		"window":        func(x *Board) { x.Window = 2 },
		"region":        func(x *Board) { x.Region = 0x0f },
		"shard":         func(x *Board) { x.AsOf[0].Shard = cairn.ShardsMax },
		"players":       func(x *Board) { x.Players = math.MaxInt32 + 1 },
		"player":        func(x *Board) { x.Rows[0].Player = cairn.PlayerID(strings.Repeat("p", 65)) },
		"claims":        func(x *Board) { x.Rows[0].Claims = -1 },
		"player's name": func(x *Board) { x.Rows[0].Name = strings.Repeat("n", 161) },
	} {
		x := goldenBoard(t)
		change(x)
		if got, err := DecodeBoard(AppendBoard(nil, x)); !errors.Is(err, ErrMalformed) || got != nil {
			t.Errorf("%s: %v, %v, want ErrMalformed", name, got, err)
		}
	}
}

func TestWindows(t *testing.T) {
	for in, want := range map[string]Window{"": WindowHunt, "hunt": WindowHunt, "hour": WindowHour} {
		if got, err := ParseWindow(in); err != nil || got != want || in != "" && got.String() != in {
			t.Errorf("ParseWindow(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"day", "Hour", " hour", strings.Repeat("x", 1<<16)} {
		if _, err := ParseWindow(in); err == nil || len(err.Error()) > 100 {
			t.Errorf("ParseWindow(%.20q): %.150v, want an error", in, err)
		}
	}
}

func TestChangeRoundTrip(t *testing.T) {
	cell := cellOf(t, "u4xs")
	hunt := cairn.Hunt{
		Name: "oslo-winter", Region: cairn.Region{Geohash: &cell}, Puzzles: map[cairn.PuzzleKind]int{cairn.Tap: 1, cairn.Odd: 3},
		Reward: cairn.Reward{Min: 1, Max: 2, Budget: cairn.BudgetMax},
	}.WithDefaults()
	boxed, drawn := hunt, hunt
	boxed.Region = cairn.Region{BBox: []float64{-10.5, 50, 1e-9, 60}}
	drawn.Region = cairn.Region{GeoJSON: json.RawMessage(`{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}`)}
	for _, c := range []cairn.Change{
		{Who: "eve", When: 1000, Hunt: hunt.Name, Create: &hunt},
		{Who: "eve", When: 1000, Hunt: hunt.Name, Create: &boxed},
		{Who: "eve", When: 1000, Hunt: hunt.Name, Create: &drawn},
		{Who: "<&>\u2028\"\\", When: -1000, Hunt: hunt.Name, State: cairn.Paused},
		{Who: "eve", Hunt: hunt.Name, Shards: 48},
		{Who: "eve", Hunt: "oslo", TilesPerMap: 65_536},
		{Who: "eve", Knob: "sweep", Value: "20ms"},
		{Who: "eve", Key: "k"},
	} {
		b, err := AppendChange([]byte("kept"), &c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeChange(bytes.TrimPrefix(b, []byte("kept")))
		if err != nil || !cmp.Equal(got, c) {
			t.Errorf("%s: %v\n%s", b, err, cmp.Diff(c, got))
		}
	}
	drawn.Region.GeoJSON = json.RawMessage(`{`)
	if b, err := AppendChange([]byte("kept"), &cairn.Change{Create: &drawn}); err == nil || string(b) != "kept" {
		t.Errorf("a change with broken GeoJSON: %s, %v, want an error and nothing appended", b, err)
	}
	for _, bad := range []string{``, `null x`, `[]`, `{`, `{"when":1}`, `{"when":"x"}`, `{"shards":"x"}`, `{"create":{"tick":"x"}}`, `{} {}`} {
		if _, err := DecodeChange([]byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("DecodeChange(%s): %v, want ErrMalformed", bad, err)
		}
	}
}
