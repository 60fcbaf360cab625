package leaderboard

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// A testRecord is a record of a shard's log with its claims.
type testRecord struct {
	shard  int
	rec    eventlog.Record
	claims []cairn.Claim
}

// testLogs makes logs of shards as a game would: at never decreases in one,
// epochs change, hours pass, and, as no game would, tiles are granted twice.
func testLogs(rnd *rand.Rand, shards, records int) [][]testRecord {
	cell, _ := cairn.ParseCell("u4xs")
	logs := make([][]testRecord, shards)
	for s := range logs {
		at := 500_000 * hour
		o := eventlog.GenesisOffset
		var from eventlog.Offset
		for range records {
			if rnd.IntN(10) == 0 {
				o = eventlog.Offset{Epoch: o.Epoch + 1}
				logs[s] = append(logs[s], testRecord{shard: s, rec: eventlog.Record{Offset: o, Kind: eventlog.Fence}})
				continue
			}
			o.Seq++
			if rnd.IntN(5) == 0 && len(logs[s]) > 0 {
				from = logs[s][rnd.IntN(len(logs[s]))].rec.Offset
			}
			r := testRecord{shard: s, rec: eventlog.Record{Offset: o, Kind: eventlog.Data, From: from}}
			for range 1 + rnd.IntN(4) {
				at += cairn.Instant(rnd.Int64N(int64(hour) / 8 * int64(rnd.IntN(2)+1)))
				bits := rnd.Uint64N(1 << 30)
				r.claims = append(r.claims, cairn.Claim{
					TileRef: cairn.TileRef{Hunt: cairn.HuntID([]string{"oslo", "world"}[rnd.IntN(2)]), Tick: cairn.Tick(rnd.IntN(3)), Tile: uint32(rnd.IntN(60)*shards + s)},
					Cell:    cairn.CellOfBits(cell.Bits()<<10|bits&1023, 6),
					Reward:  cairn.Micro(rnd.IntN(3)) * 100,
					Player:  cairn.PlayerID(fmt.Sprintf("p%d", rnd.IntN(12))),
					Name:    fmt.Sprintf("name%d", rnd.IntN(5)),
					At:      at,
				})
			}
			logs[s] = append(logs[s], r)
		}
	}
	return logs
}

var testRules = rules{depth: 2, bound: 64 << 20}

var testRoots = map[cairn.HuntID]cairn.Cell{"oslo": mustCell("u4xs"), "world": 0}

func mustCell(s string) cairn.Cell {
	c, err := cairn.ParseCell(s)
	if err != nil {
		panic(err)
	}
	return c
}

func (f *fold) testApply(t interface{ Fatal(...any) }, r testRecord) {
	for _, c := range r.claims {
		f.hunt(c.Hunt, testRoots[c.Hunt])
	}
	if err := f.apply(r.shard, &r.rec, r.claims); err != nil {
		t.Fatal(err)
	}
}

// foldLogs folds the logs in an order drawn by pick, which is given how many
// shards have records left.
func foldLogs(t interface{ Fatal(...any) }, logs [][]testRecord, pick func(n int) int) *fold {
	f := newFold(testRules)
	left := slices.Clone(logs)
	for {
		left = slices.DeleteFunc(left, func(l []testRecord) bool { return len(l) == 0 })
		if len(left) == 0 {
			return f
		}
		i := pick(len(left))
		f.testApply(t, left[i][0])
		left[i] = left[i][1:]
	}
}

// Any interleaving of the shards gives the same boards, byte for byte.
func TestFoldCommutesOverShards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		logs := testLogs(rnd, rapid.IntRange(1, 5).Draw(t, "shards"), rapid.IntRange(0, 60).Draw(t, "records"))
		want := foldLogs(t, logs, func(int) int { return 0 }).encode(nil)
		got := foldLogs(t, logs, func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "next") }).encode(nil)
		if !bytes.Equal(got, want) {
			t.Fatalf("another order gives another fold: %d bytes, want %d", len(got), len(want))
		}
		last := foldLogs(t, logs, func(n int) int { return n - 1 })
		if !bytes.Equal(last.encode(nil), want) {
			t.Fatal("the last shard first gives another fold")
		}
		last.checkAll(t)
	})
}

// boards calls yield for each board of the fold.
func (f *fold) boards(yield func(*board)) {
	for _, h := range f.hunts {
		h.spans(func(s *span) {
			yield(s.whole)
			for i := range s.levels {
				for _, b := range s.levels[i].boards {
					yield(b)
				}
			}
		})
	}
}

// checkAll fails unless all boards are in order, and reckoned right.
func (f *fold) checkAll(t interface{ Fatalf(string, ...any) }) {
	f.boards(func(b *board) {
		if err := b.check(); err != nil {
			t.Fatalf("%+v: %v", b.key(), err)
		}
	})
	for _, h := range f.hunts {
		h.spans(func(s *span) {
			for i, l := range s.levels {
				bytes := 0
				for _, b := range l.boards {
					bytes += boardBytes + rowBytes*b.players()
				}
				if bytes != l.bytes || len(l.list) != len(l.boards) {
					t.Fatalf("%s level %d: %d bytes in %d boards, want %d in %d", h.id, i, l.bytes, len(l.list), bytes, len(l.boards))
				}
			}
		})
	}
}

// naiveBoard computes a board from the claims of all logs, without any of the
// fold's ways: it sorts claims, and adds.
func naiveBoard(logs [][]testRecord, key wire.BoardKey) (rows []wire.Row, newest cairn.Instant) {
	type last struct {
		at cairn.Instant
		pl cairn.Place
	}
	type score struct {
		wire.Row
		last
	}
	byPlayer := map[cairn.PlayerID]*score{}
	names := map[cairn.PlayerID]last{}
	nameOf := map[cairn.PlayerID]string{}
	order := func(a, b last) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.pl.Shard, b.pl.Shard), cmp.Compare(a.pl.Epoch, b.pl.Epoch),
			cmp.Compare(a.pl.Seq, b.pl.Seq), cmp.Compare(a.pl.Index, b.pl.Index))
	}
	for shard, log := range logs {
		for _, r := range log {
			for i, c := range r.claims {
				l := last{c.At, cairn.Place{Shard: shard, Epoch: r.rec.Offset.Epoch, Seq: r.rec.Offset.Seq, Index: i}}
				if c.Hunt != key.Hunt {
					continue
				}
				if was, ok := names[c.Player]; !ok || order(was, l) < 0 {
					names[c.Player], nameOf[c.Player] = l, c.Name
				}
				if key.Window == wire.WindowHour && HourOf(c.At) != key.Hour || !key.Region.Contains(c.Cell) {
					continue
				}
				newest = max(newest, c.At)
				s := byPlayer[c.Player]
				if s == nil {
					s = &score{Row: wire.Row{Player: c.Player}}
					byPlayer[c.Player] = s
				}
				s.Score += c.Reward
				s.Claims++
				if s.Claims == 1 || order(s.last, l) < 0 {
					s.last = l
				}
			}
		}
	}
	var all []*score
	for p, s := range byPlayer {
		s.Name = nameOf[p]
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *score) int { return cmp.Or(cmp.Compare(b.Score, a.Score), order(a.last, b.last)) })
	for i, s := range all {
		s.Rank = i + 1
		rows = append(rows, s.Row)
	}
	return rows, newest
}

// distinct drops second grants, so that the naive board need not know of them.
func distinct(logs [][]testRecord) {
	seen := map[cairn.TileRef]bool{}
	for _, log := range logs {
		for i := range log {
			log[i].claims = slices.DeleteFunc(log[i].claims, func(c cairn.Claim) bool {
				was := seen[c.TileRef]
				seen[c.TileRef] = true
				return was
			})
		}
	}
}

func TestFoldMatchesNaiveBoards(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		logs := testLogs(rnd, 4, 30)
		distinct(logs)
		f := foldLogs(t, logs, rnd.IntN)
		for hunt, root := range testRoots {
			for _, region := range []string{"", "u", "u4", "u4x", "u4xs", "u4xs0", "u4xsz", "u4xs07", "u4xt", "b"} {
				for h := f.oldestHour(); h <= HourOf(f.newest)+1; h++ {
					for _, w := range []wire.Window{wire.WindowHunt, wire.WindowHour} {
						key := wire.BoardKey{Hunt: hunt, Window: w, Hour: h * int64(w), Region: mustCell(region)}
						b, err := f.find(key)
						if err != nil {
							if key.Region.Precision() <= max(4, root.Precision()+2) {
								t.Fatalf("%+v: %v", key, err)
							}
							continue
						}
						want, newest := naiveBoard(logs, key)
						got := f.snapshot(key, b, RowsMax)
						if !slices.Equal(got.Rows, want) || got.Newest != newest || got.Players != len(want) {
							t.Fatalf("seed %d %+v:\ngot  %+v\nwant %+v", seed, key, got.Rows, want)
						}
					}
				}
			}
		}
	}
}

func TestFoldRefuses(t *testing.T) {
	f := foldLogs(t, testLogs(rand.New(rand.NewPCG(1, 1)), 3, 60), func(int) int { return 0 })
	for _, c := range []struct {
		key  wire.BoardKey
		want string // in the error; "" for none
	}{
		{wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs00")}, ""},
		{wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs000")}, "region: is \"u4xs000\"; want at most 6 characters in this hunt"},
		{wire.BoardKey{Hunt: "oslo", Region: mustCell("u4000000000")}, ""}, // beside the hunt: empty
		{wire.BoardKey{Hunt: "world", Region: mustCell("u4xs")}, ""},
		{wire.BoardKey{Hunt: "world", Region: mustCell("u4xs0")}, "region: is \"u4xs0\"; want at most 4 characters in this hunt"},
		{wire.BoardKey{Hunt: "nobody", Region: mustCell("u4xs000")}, ""},
		{wire.BoardKey{Hunt: "oslo", Window: wire.WindowHour, Hour: f.oldestHour()}, ""},
		{wire.BoardKey{Hunt: "oslo", Window: wire.WindowHour, Hour: f.oldestHour() - 1}, "hour: is"},
	} {
		_, err := f.find(c.key)
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: got %v, want %q", c.key, err, c.want)
		}
	}
}

// Hours that are over are dropped, and what is of them later is not counted.
func TestFoldDropsHours(t *testing.T) {
	f := newFold(testRules)
	at := 1000 * hour
	for i := range 50 {
		c := cairn.Claim{TileRef: cairn.TileRef{Hunt: "world", Tick: cairn.Tick(i)}, Player: "p", Name: "p", At: at + cairn.Instant(i)*hour, Cell: mustCell("u4xs")}
		f.testApply(t, testRecord{rec: eventlog.Record{Offset: eventlog.Offset{Epoch: 1, Seq: uint64(i + 1)}}, claims: []cairn.Claim{c}})
	}
	late := cairn.Claim{TileRef: cairn.TileRef{Hunt: "world", Tick: 99}, Player: "p", Name: "p", At: at, Cell: mustCell("u4xs")}
	f.testApply(t, testRecord{shard: 1, rec: eventlog.Record{Offset: eventlog.Offset{Epoch: 1, Seq: 1}}, claims: []cairn.Claim{late}})
	got := 0
	f.boards(func(*board) { got++ })
	if want := (1 + 4) * (1 + hoursKept); got != want {
		t.Errorf("got %d boards, want %d", got, want)
	}
	b, _ := f.find(wire.BoardKey{Hunt: "world"})
	if s, _ := b.get(0); s.claims != 51 {
		t.Errorf("hunt board has %d claims, want 51", s.claims)
	}
	// Maps that can't be claimed from any more are forgotten.
	if got := len(f.shards[0].seen.maps); got > 2 {
		t.Errorf("%d maps remembered, want at most 2", got)
	}
}

func TestFirstGrantWins(t *testing.T) {
	f := newFold(rules{0, 1 << 20})
	for i, p := range []cairn.PlayerID{"ana", "bo"} {
		c := cairn.Claim{TileRef: cairn.TileRef{Hunt: "world", Tile: 9}, Player: p, Name: "x", Reward: 5, At: cairn.Instant(i)}
		f.testApply(t, testRecord{rec: eventlog.Record{Offset: eventlog.Offset{Epoch: 1, Seq: uint64(i + 1)}}, claims: []cairn.Claim{c}})
	}
	got := f.snapshot(wire.BoardKey{Hunt: "world"}, f.hunts["world"].all.whole, 10)
	if len(got.Rows) != 1 || got.Rows[0].Player != "ana" || got.Rows[0].Score != 5 {
		t.Errorf("got %+v, want ana alone with 5", got.Rows)
	}
}

func TestRootOf(t *testing.T) {
	cell := mustCell("u4xs")
	for _, c := range []struct {
		region cairn.Region
		want   string
	}{
		{cairn.Region{Geohash: &cell}, "u4xs"},
		{cairn.Region{BBox: []float64{10.6, 59.85, 10.9, 59.98}}, "u4x"},
		{cairn.Region{BBox: []float64{170, -10, -170, 10}}, ""}, // crosses ±180°
		{cairn.Region{BBox: []float64{-180, -90, 180, 90}}, ""},
		{cairn.Region{BBox: []float64{135, 45, 180, 90}}, "z"},
		{cairn.Region{GeoJSON: []byte(`{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[10.6,59.85],[10.9,59.85],[10.9,59.98],[10.6,59.85]]]}}`)}, "u4x"},
		{cairn.Region{GeoJSON: []byte(`{"type":"Polygon"`)}, ""},
	} {
		if got := rootOf(c.region).String(); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.region, got, c.want)
		}
	}
}

func TestHourOf(t *testing.T) {
	for at, want := range map[cairn.Instant]int64{0: 0, hour - 1: 0, hour: 1, -1: -1, -hour: -1, -hour - 1: -2} {
		if got := HourOf(at); got != want {
			t.Errorf("HourOf(%d) = %d, want %d", at, got, want)
		}
	}
}

// The largest board there can be is within a record.
func TestBoardFitsInRecord(t *testing.T) {
	b := &wire.Board{Players: 1 << 30, Newest: -1 << 62, Published: -1 << 62}
	b.Hunt = cairn.HuntID(strings.Repeat("h", cairn.HuntNameBytesMax))
	b.Hour = -1 << 62
	for i := range cairn.ShardsMax {
		b.AsOf = append(b.AsOf, wire.ShardOffset{Shard: i, Offset: eventlog.Offset{Epoch: 1 << 63, Seq: 1 << 63}})
	}
	for range RowsPublished {
		b.Rows = append(b.Rows, wire.Row{Player: cairn.PlayerID(strings.Repeat("p", cairn.PlayerBytesMax)), Name: strings.Repeat("n", 4*cairn.PlayerNameMax), Score: -1 << 62, Claims: 1 << 31})
	}
	if got := len(wire.AppendBoard(nil, b)); got > eventlog.BodyBytesMax {
		t.Errorf("got %d bytes, want at most %d", got, eventlog.BodyBytesMax)
	}
}
