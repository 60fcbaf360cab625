package wire

import (
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

func testCourse() *Course {
	return &Course{
		Hunt: "oslo", Tick: 1_800_000_000, Digest: cairn.Digest{1, 2, 3}, Left: -5, Settled: math.MinInt64,
		Shards: []CourseShard{{From: eventlog.Offset{Epoch: 1, Seq: 2}, Read: eventlog.Offset{Epoch: 3, Seq: math.MaxUint64}}, {}},
	}
}

func TestCourse(t *testing.T) {
	want := testCourse()
	body := AppendCourse(nil, want)
	h, got, err := DecodeMapsRecord(body)
	if err != nil || h != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, header %v, error %v; want %+v", got, h, err, want)
	}
	for n := range body {
		if _, _, err := DecodeMapsRecord(body[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut to %d bytes: got %v, want ErrMalformed", n, err)
		}
	}
	if _, _, err := DecodeMapsRecord(append(body, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte too many: got %v, want ErrMalformed", err)
	}
}

// TestMapFoldPassesOverCourses puts a map together with a course before it and
// behind it.
func TestMapFoldPassesOverCourses(t *testing.T) {
	m := &cairn.Map{
		MapHeader: cairn.MapHeader{Hunt: "oslo", Tick: 7, Opens: 7, Closes: 9, Shards: 1, Tiles: 1, Offer: 3, Budget: 4},
		Tiles:     []cairn.Tile{{Cell: cairn.CellOfBits(3, 1), Reward: 3, Puzzle: cairn.Tap}},
	}
	m.Digest = MapDigest(m)
	course := AppendCourse(nil, testCourse())
	var fold MapFold
	for _, x := range []struct {
		body  []byte
		isMap bool
	}{{course, false}, {AppendMapChunk(nil, m, 0), false}, {AppendMapHeader(nil, &m.MapHeader), true}, {course, false}} {
		got, err := fold.Apply(x.body)
		if err != nil || (got != nil) != x.isMap {
			t.Errorf("got %v and %v, want a map: %t", got, err, x.isMap)
		}
	}
	if h, c, err := DecodeMapsRecord(AppendMapHeader(nil, &m.MapHeader)); err != nil || c != nil || *h != m.MapHeader {
		t.Errorf("header: got %+v, %v and %v, want %+v", h, c, err, m.MapHeader)
	}
	if h, c, err := DecodeMapsRecord(AppendMapChunk(nil, m, 0)); err != nil || c != nil || h != nil {
		t.Errorf("chunk: got %v, %v and %v, want neither", h, c, err)
	}
}

func FuzzDecodeMapsRecord(f *testing.F) {
	f.Add(AppendCourse(nil, testCourse()))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, c, err := DecodeMapsRecord(body)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("got %v, want ErrMalformed", err)
		}
		if c != nil {
			_, again, err := DecodeMapsRecord(AppendCourse(nil, c))
			if err != nil || !reflect.DeepEqual(again, c) {
				t.Fatalf("got %+v and %v after a round trip, want %+v", again, err, c)
			}
		}
	})
}
