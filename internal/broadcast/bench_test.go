package broadcast

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// A benchHub is a hub that is driven by hand, on a hunt with open maps.
type benchHub struct {
	*Hub
	now    cairn.Instant
	maps   []*mapState
	claims int
	due    []*cursor
}

// firstTick is that of a benchHub's first map: as long as ticks of a second are.
const firstTick cairn.Tick = 1_767_323_040

func newBenchHub(b testing.TB, maps, tiles int) *benchHub {
	b.Helper()
	x := &benchHub{now: cairn.InstantOf(time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC))}
	x.Hub = New(nil, Options{Now: func() time.Time { return x.now.Time() }})
	st := newState()
	st.hunts.Apply(changeCreate(huntID))
	for n := range maps {
		m := &cairn.Map{MapHeader: cairn.MapHeader{Hunt: huntID, Tick: firstTick + cairn.Tick(n), Opens: x.now, Closes: x.now.Add(time.Hour), Shards: 24, Tiles: tiles}}
		for i := range tiles {
			m.Tiles = append(m.Tiles, cairn.Tile{Cell: cairn.CellOfBits(26<<25|uint64(i*32768/tiles)<<10|uint64(i%1024), 6), Puzzle: cairn.Tap, Reward: 100})
		}
		m.Digest = wire.MapDigest(m)
		st.addMap(m, x.now)
		x.maps = append(x.maps, st.find(huntID, m.Tick))
	}
	x.begin(&life{epoch: newEpoch(), state: st})
	return x
}

// claim has n tiles won.
func (x *benchHub) claim(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for range n {
		m := x.maps[x.claims%len(x.maps)]
		tile := uint32(x.claims / len(x.maps) % len(m.Tiles))
		x.claims++
		if m.holders != nil {
			m.holders[tile] = holder{} // so that there are always more to win
		}
		c := cairn.Claim{TileRef: cairn.TileRef{Hunt: huntID, Tick: m.Tick, Tile: tile}, Player: "player-17", Name: "Ana", At: x.now}
		if w, ok := x.life.state.claim(&c, x.now); ok {
			x.won(w, x.now)
		}
	}
}

// deliver sweeps and writes to every connection.
func (x *benchHub) deliver() {
	x.sweep()
	for _, d := range x.deliverers {
		x.due = d.deliver(x.due[:0])
	}
}

// A nullConn is a connection to nowhere that is written to by real system
// calls.
type nullConn struct {
	net.Conn // nil: nothing but writing is asked of it
	f        *os.File
}

func (c nullConn) SyscallConn() (syscall.RawConn, error) { return c.f.SyscallConn() }
func (c nullConn) Write(b []byte) (int, error)           { return c.f.Write(b) }
func (c nullConn) SetWriteDeadline(time.Time) error      { return nil }
func (c nullConn) SetReadDeadline(time.Time) error       { return nil }
func (x *benchHub) connect(b testing.TB, n int, in Interest) {
	b.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	for i := range n {
		v, err := x.acquire(in)
		if err != nil {
			b.Fatal(err)
		}
		c := newConn(x.Hub, x.deliverers[i%len(x.deliverers)], nullConn{f: f}, JSON, nil)
		c.feed.watch(c, in.Hunt, v, Resume{})
		c.writing = true
		c.write(false) // the snapshot
	}
}

// eachCodecOf runs a benchmark once in each codec.
func eachCodecOf(b *testing.B, run func(b *testing.B, codec Codec)) {
	for codec := range codecs {
		b.Run(codec.String(), func(b *testing.B) { run(b, codec) })
	}
}

func BenchmarkEncodeDelta(b *testing.B) {
	for _, claims := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("claims=%d", claims), func(b *testing.B) {
			eachCodecOf(b, func(b *testing.B, codec Codec) {
				x := newBenchHub(b, 30, 1000)
				r := x.index.region(regionKey{huntID, 0}, x.seq)
				x.claim(claims)
				benchDelta(b, codec, r, x.seq)
			})
		})
	}
}

func BenchmarkEncodeOpened(b *testing.B) {
	eachCodecOf(b, func(b *testing.B, codec Codec) {
		x := newBenchHub(b, 1, 1000)
		r := x.index.region(regionKey{huntID, 0}, x.seq)
		r.opened = x.maps
		benchDelta(b, codec, r, x.seq)
	})
}

// benchDelta encodes the delta of a region into room as the sweep takes it.
func benchDelta(b *testing.B, codec Codec, r *region, seq uint64) {
	buf := make([]byte, 0, codec.deltaRoom(r))
	b.ReportAllocs()
	for b.Loop() {
		buf = codec.encoder().appendDelta(buf[:0], r, seq)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportMetric(float64(len(buf)), "B/frame")
}

func BenchmarkEncodeStandings(b *testing.B) {
	eachCodecOf(b, func(b *testing.B, codec Codec) {
		x := &board{Board: &wire.Board{BoardKey: wire.BoardKey{Hunt: huntID}, Players: 1000}, seq: 7}
		for i := range 20 {
			id := fmt.Sprintf("player-%d", i)
			x.Rows = append(x.Rows, wire.Row{Rank: i + 1, Player: cairn.PlayerID(id), Name: "Name of " + id, Score: 1_000_000, Claims: 100 - i})
		}
		for i := range 24 {
			x.AsOf = append(x.AsOf, wire.ShardOffset{Shard: i, Offset: eventlog.Offset{Epoch: 3, Seq: 12345}})
		}
		b.ReportAllocs()
		for b.Loop() {
			x.forms = [codecs]boardForm{}
			x.frame(codec, 20)
		}
		b.ReportMetric(float64(len(x.frame(codec, 20).payload)), "B/frame")
	})
}

func BenchmarkSnapshot(b *testing.B) {
	eachCodecOf(b, func(b *testing.B, codec Codec) {
		x := newBenchHub(b, 30, 1000)
		x.claim(3000)
		v, err := x.acquire(Interest{Codec: codec, Hunt: huntID, Regions: []cairn.Cell{0}})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		size := 0
		for b.Loop() {
			x.seq++ // the one before is of the past
			size = len(x.snapshot(v).frame.payload)
		}
		b.SetBytes(int64(size))
		b.ReportMetric(float64(size), "B/frame")
	})
}

// BenchmarkSweep is one sweep with ten claims, and the writing of its frame to
// every connection, the receiving socket's work aside.
func BenchmarkSweep(b *testing.B) {
	for _, conns := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			x := newBenchHub(b, 30, 1000)
			x.connect(b, conns, Interest{Hunt: huntID, Regions: []cairn.Cell{0}})
			b.ReportAllocs()
			for b.Loop() {
				x.claim(10)
				x.deliver()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*conns), "ns/delivery")
		})
	}
}

// TestHotPathAllocates nothing a delivery, and nothing an encoding beyond the
// frame itself.
func TestHotPathAllocates(t *testing.T) {
	x := newBenchHub(t, 30, 1000)
	const conns = 200
	x.connect(t, conns, Interest{Hunt: huntID, Regions: []cairn.Cell{0}})
	x.claim(10)
	x.deliver()
	one := testing.AllocsPerRun(100, func() { x.claim(10); x.deliver() })
	x.connect(t, 9*conns, Interest{Hunt: huntID, Regions: []cairn.Cell{0}})
	x.claim(10)
	x.deliver()
	ten := testing.AllocsPerRun(100, func() { x.claim(10); x.deliver() })
	if ten > one+2 {
		t.Errorf("a sweep allocates %v times for %d connections and %v for %d: deliveries allocate", one, conns, ten, 10*conns)
	}
	r := x.index.region(regionKey{huntID, 0}, x.seq)
	x.claim(100)
	buf := make([]byte, 0, 1<<20)
	for codec := range codecs {
		if n := testing.AllocsPerRun(100, func() { buf = codec.encoder().appendDelta(buf[:0], r, x.seq) }); n != 0 {
			t.Errorf("%v: appendDelta: %v allocations, want 0", codec, n)
		}
	}
}
