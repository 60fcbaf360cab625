package leaderboard

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// fieldOf returns the field that find refuses key with, or "".
func (f *fold) fieldOf(t *testing.T, key wire.BoardKey) string {
	t.Helper()
	_, err := f.find(key)
	var field *cairn.FieldError
	if err != nil && !errors.As(err, &field) {
		t.Fatalf("%+v: got %v, want a FieldError", key, err)
	}
	if field == nil {
		return ""
	}
	return field.Field
}

// A level of regions that takes too much is dropped, from the finest on, and
// says so; the same whatever the order, and after a checkpoint.
func TestLevelsAreBounded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	logs := testLogs(rnd, 3, 200)
	distinct(logs)
	// Just enough for the first level of oslo.
	bound := foldLogs(t, logs, func(int) int { return 0 }).hunts["oslo"].all.levels[0].bytes
	var first []byte
	for range 5 {
		f := newFold(rules{2, bound})
		left := [][]testRecord{logs[0], logs[1], logs[2]}
		for len(left[0])+len(left[1])+len(left[2]) > 0 {
			if i := rnd.IntN(3); len(left[i]) > 0 {
				f.testApply(t, left[i][0])
				left[i] = left[i][1:]
			}
		}
		f.checkAll(t)
		oslo := f.hunts["oslo"].all
		if !oslo.levels[1].over || oslo.levels[0].over || len(oslo.levels[1].boards) > 0 {
			t.Fatalf("levels: %d and %d bytes, want the second alone to be over %d", oslo.levels[0].bytes, oslo.levels[1].bytes, bound)
		}
		if got := f.fieldOf(t, wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs07")}); got != "region" {
			t.Errorf("a level that was dropped: refused for %q, want region", got)
		}
		if _, err := f.find(wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs07")}); !strings.Contains(fmt.Sprint(err), "at most 5 characters") {
			t.Errorf("got %v, want it to name 5 characters", err)
		}
		key := wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs0")}
		b, err := f.find(key)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := naiveBoard(logs, key)
		if got := f.snapshot(key, b, RowsMax); fmt.Sprint(got.Rows) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got.Rows, want)
		}
		enc := f.encode(nil)
		if first == nil {
			first = enc
		}
		if !bytes.Equal(enc, first) {
			t.Fatal("another order drops other boards")
		}
		g, _, err := decodeFold(enc, rules{2, bound})
		if err != nil {
			t.Fatal(err)
		}
		g.checkAll(t)
		if !g.hunts["oslo"].all.levels[1].over {
			t.Error("a level came back with a checkpoint")
		}
	}
}

// endless folds a claim of each of some hunts, which end one after the other,
// a minute apart.
func endless(t *testing.T, known bool, hunts int) *fold {
	f := newFold(testRules)
	at := 1000 * hour
	end := func(i int) {
		f.ended(cairn.HuntID(fmt.Sprintf("hunt-%03d", i)), 1000*hour+cairn.Instant(i)*minute)
	}
	for i := range hunts {
		if known {
			end(i)
		}
	}
	for i := range hunts {
		id := cairn.HuntID(fmt.Sprintf("hunt-%03d", i))
		f.hunt(id, 0)
		for j := range 3 {
			c := cairn.Claim{TileRef: cairn.TileRef{Hunt: id, Tile: uint32(j)}, Player: cairn.PlayerID(fmt.Sprint(j)), Name: "p", At: at + cairn.Instant(i)*minute, Cell: mustCell("u4xs")}
			rec := eventlog.Record{Offset: eventlog.Offset{Epoch: 1, Seq: uint64(3*i + j + 1)}}
			if err := f.apply(0, &rec, []cairn.Claim{c}); err != nil {
				t.Fatal(err)
			}
		}
		if !known {
			end(i)
		}
	}
	return f
}

// Of hunts that ended stay: for ten minutes all; then the hunt's own board; and
// of the 32 that ended last alone. It does not matter when that was heard of.
func TestEndedHuntsAreBounded(t *testing.T) {
	const hunts = 100
	f := endless(t, true, hunts)
	if !bytes.Equal(f.encode(nil), endless(t, false, hunts).encode(nil)) {
		t.Error("what stays hangs on when ends were heard of")
	}
	for i := range hunts {
		id := cairn.HuntID(fmt.Sprintf("hunt-%03d", i))
		var got [3]string
		for j, key := range []wire.BoardKey{{Hunt: id}, {Hunt: id, Region: mustCell("u4xs")}, {Hunt: id, Window: wire.WindowHour, Hour: HourOf(f.newest)}} {
			got[j] = f.fieldOf(t, key)
		}
		want := [3]string{}
		switch age := hunts - 1 - i; {
		case age >= 10+endedMax:
			want = [3]string{"hunt", "hunt", "hunt"}
		case age >= 10:
			want = [3]string{"", "region", "window"}
		}
		if got != want {
			t.Errorf("%s: refused for %q, want %q", id, got, want)
		}
	}
	if got := len(f.hunts); got != 10+endedMax {
		t.Errorf("%d hunts in memory, want %d", got, 10+endedMax)
	}
	// A checkpoint has it all, and a claim that comes late brings nothing back.
	b := f.encode(nil)
	g, _, err := decodeFold(b, testRules)
	if err != nil {
		t.Fatal(err)
	}
	late := cairn.Claim{TileRef: cairn.TileRef{Hunt: "hunt-000", Tile: 9}, Player: "x", Name: "x", At: 1000 * hour, Cell: mustCell("u4xs")}
	shut := late
	shut.Hunt = "hunt-080"
	g.testApply(t, testRecord{shard: 1, rec: eventlog.Record{Offset: eventlog.Offset{Epoch: 1, Seq: 1}}, claims: []cairn.Claim{late, shut}})
	if g.hunts["hunt-000"] != nil || g.fieldOf(t, wire.BoardKey{Hunt: "hunt-000"}) != "hunt" {
		t.Error("a late claim brought a hunt back that is gone")
	}
	h := g.hunts["hunt-080"]
	if len(h.hours) > 0 || h.all.count() != 1 || h.all.whole.players() != 4 {
		t.Errorf("a late claim: %d hours, %d boards, %d players; want 0, 1, 4", len(h.hours), h.all.count(), h.all.whole.players())
	}
}

// A board of one player takes less than 500 bytes.
func TestSmallBoardsAreSmall(t *testing.T) {
	f := newFold(rules{1, 1 << 40})
	h := f.hunt("h", 0)
	s := f.span(h, wire.WindowHunt, 0)
	s.levels = make([]level, 1)
	s.levels[0].boards = map[cairn.Cell]*board{}
	// Cells of one length: their number is their first bits.
	const boards = 20_000
	h.depth = 1
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := &s.levels[0]
	for i := range boards {
		b := f.newBoard(s, cairn.CellOfBits(uint64(i), 4))
		l.boards[b.region] = b
		l.list = append(l.list, b)
		b.add(1, 100, cairn.Instant(i), place{seq: uint64(i)})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := (after.HeapAlloc - before.HeapAlloc) / boards; got > 500 {
		t.Errorf("a board of one player takes %d bytes, want at most 500", got)
	} else {
		t.Logf("a board of one player takes %d bytes", got)
	}
	runtime.KeepAlive(f)
}
