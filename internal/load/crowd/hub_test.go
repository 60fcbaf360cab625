package crowd

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/broadcast"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/filelog"
	"github.com/veltrix/cairn/internal/wire"
)

const (
	huntID   = cairn.HuntID("oslo")
	shardsIn = 2
)

var cellsIn = []string{"u4xsu", "u4xsv", "u4xt0", "u4prm", "u4q0b", "u65j0", "9q8yy", "9q8zn", "dr5ru", "u4xtb"}

// A rig is the real hub, on real logs and real sockets.
type rig struct {
	t         testing.TB
	hubs      []*broadcast.Hub
	addrs     []string
	maps      eventlog.Writer
	standings eventlog.Writer
	shards    []eventlog.Writer
	tick      cairn.Tick
	prev      cairn.Digest
	mu        sync.Mutex
	conns     map[net.Conn]bool
}

// newRig starts n hubs on the same logs.
func newRig(t testing.TB, n int, opts broadcast.Options) *rig {
	t.Helper()
	ctx := t.Context()
	store, err := filelog.Open(t.TempDir(), filelog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	specs := []eventlog.Spec{{Name: eventlog.Control}, {Name: eventlog.Maps}, {Name: eventlog.Standings, Volatile: true}}
	for i := range shardsIn {
		specs = append(specs, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	if err := store.Provision(ctx, specs...); err != nil {
		t.Fatal(err)
	}
	writer := func(name eventlog.Name) eventlog.Writer {
		w, err := store.Open(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	r := &rig{t: t, conns: map[net.Conn]bool{}, maps: writer(eventlog.Maps), standings: writer(eventlog.Standings)}
	for i := range shardsIn {
		r.shards = append(r.shards, writer(eventlog.Shard(i)))
	}
	control := writer(eventlog.Control)
	world := cairn.Cell(0)
	hunt := cairn.Hunt{Name: huntID, Region: cairn.Region{Geohash: &world}, Shards: shardsIn}.WithDefaults()
	for _, c := range []cairn.Change{{Hunt: huntID, Create: &hunt}, {Hunt: huntID, State: cairn.Live}} {
		c.Who, c.When = "test", cairn.InstantOf(time.Now())
		b, err := wire.AppendChange(nil, &c)
		if err != nil {
			t.Fatal(err)
		}
		r.append(control, b)
	}
	if opts.Sweep == 0 {
		opts.Sweep = 5 * time.Millisecond
	}
	var all sync.WaitGroup
	hctx, stop := context.WithCancel(context.Background())
	var lns []net.Listener
	for range n {
		hub := broadcast.New(store, opts)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		lns = append(lns, ln)
		r.hubs, r.addrs = append(r.hubs, hub), append(r.addrs, ln.Addr().String())
		all.Go(func() {
			if err := hub.Run(hctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		all.Go(func() { r.accept(ln, hub, &all) })
	}
	t.Cleanup(func() {
		for _, ln := range lns {
			ln.Close()
		}
		stop()
		all.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, hub := range r.hubs {
		until(t, "the hub is ready", func() bool { return hub.Ready() == nil })
	}
	return r
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for over := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(over) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}

func (r *rig) accept(ln net.Listener, hub *broadcast.Hub, all *sync.WaitGroup) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			hs, err := (ws.Upgrader{Protocol: func(b []byte) bool { _, ok := broadcast.CodecOf(string(b)); return ok }}).Upgrade(c)
			codec, ok := broadcast.CodecOf(hs.Protocol)
			if err != nil || !ok {
				c.Close()
				return
			}
			r.mu.Lock()
			r.conns[c] = true
			r.mu.Unlock()
			hub.Serve(c, nil, codec, nil, func(error) {
				r.mu.Lock()
				delete(r.conns, c)
				r.mu.Unlock()
			})
		})
	}
}

func (r *rig) append(w eventlog.Writer, body []byte) {
	r.t.Helper()
	if _, err := w.Append(context.Background(), body, eventlog.Offset{}); err != nil {
		r.t.Fatal(err)
	}
}

// open appends a map that is open at once, for a while: no shorter than those
// before it, since maps close in the order that they opened in.
func (r *rig) open(tiles int, lifetime time.Duration) *cairn.Map {
	r.t.Helper()
	r.tick++
	now := cairn.InstantOf(time.Now())
	m := &cairn.Map{MapHeader: cairn.MapHeader{Hunt: huntID, Tick: r.tick, Opens: now, Closes: now.Add(lifetime), Shards: shardsIn, Tiles: tiles, Prev: r.prev}}
	for i := range tiles {
		c, err := cairn.ParseCell(cellsIn[i%len(cellsIn)])
		if err != nil {
			r.t.Fatal(err)
		}
		m.Tiles = append(m.Tiles, cairn.Tile{Cell: c, Puzzle: cairn.Tap, Reward: cairn.Micro(100 + i)})
	}
	m.Digest = wire.MapDigest(m)
	r.prev = m.Digest
	for first := 0; first < len(m.Tiles); first += wire.TilesPerChunk {
		r.append(r.maps, wire.AppendMapChunk(nil, m, first))
	}
	r.append(r.maps, wire.AppendMapHeader(nil, &m.MapHeader))
	for _, hub := range r.hubs {
		until(r.t, "the map is folded", func() bool { _, ok := hub.Map(huntID, m.Tick); return ok })
	}
	return m
}

func (r *rig) claim(m *cairn.Map, tile int) {
	r.t.Helper()
	c := cairn.Claim{
		TileRef: cairn.TileRef{Hunt: m.Hunt, Tick: m.Tick, Tile: uint32(tile)}, Cell: m.Tiles[tile].Cell, Reward: m.Tiles[tile].Reward,
		Player: cairn.PlayerID(fmt.Sprintf("p%d", rand.IntN(1000))), Name: "Ana", At: cairn.InstantOf(time.Now()),
	}
	shard := cairn.ShardOf(cairn.SlotterOf(c.Hunt, c.Tick).Slot(c.Tile), shardsIn)
	r.append(r.shards[shard], wire.AppendClaims(nil, []cairn.Claim{c}))
}

func (r *rig) board(players int) {
	r.t.Helper()
	b := &wire.Board{BoardKey: wire.BoardKey{Hunt: huntID}, Players: players, Newest: cairn.InstantOf(time.Now()), Published: cairn.InstantOf(time.Now())}
	for i := range min(players, 5) {
		b.Rows = append(b.Rows, wire.Row{Rank: i + 1, Player: cairn.PlayerID(fmt.Sprintf("p%d", i)), Name: "Ana", Score: cairn.Micro(players - i), Claims: 1})
	}
	r.append(r.standings, wire.AppendBoard(nil, b))
}

// cut resets some connections, from the server's side.
func (r *rig) cut(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		if n--; n < 0 {
			return
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// connected returns how many connections the hubs have.
func (r *rig) connected() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

// agreed reads the crowd until all of it knows the same, and returns that.
func (c *tester) agreed(n int) string {
	c.t.Helper()
	s := c.until(fmt.Sprintf("all %d agree", n), func(s *Stats) bool {
		return s.Ready == n && len(s.States) == 1 && slices.Collect(maps.Values(s.States))[0] == n
	})
	if f := s.Faults(); f != nil {
		c.t.Errorf("faults: %v", f)
	}
	return slices.Collect(maps.Keys(s.States))[0]
}

// describe tells apart the members of a crowd that this process carries, those
// in the same state once.
func (c *tester) describe() string {
	var b strings.Builder
	if l, ok := c.parts.list[0].(*loop); ok {
		seen := map[string]int{}
		_ = l.do(func() {
			for slot := range l.members {
				m := l.at(slot)
				s := l.table.states[m.state]
				seen[fmt.Sprintf("phase %d, flags %b, sum %x, epoch %s, seq %d, regions at %d, %d maps", m.phase, m.flags, s.sum, s.epoch, s.seq, s.at, len(s.maps))]++
			}
		})
		for _, k := range slices.Sorted(maps.Keys(seen)) {
			fmt.Fprintf(&b, "\n%d: %s", seen[k], k)
		}
	}
	return b.String()
}

// TestFold: whoever watches comes to know the same, through cuts of either
// side, whichever gateway it is at, and no matter when it came.
func TestFold(t *testing.T) {
	for _, d := range []Dialect{JSON(), Proto()} {
		t.Run(d.Name, func(t *testing.T) {
			eachLink(t, func(t *testing.T, portable bool) { testFold(t, d, portable) })
		})
	}
}

func testFold(t *testing.T, d Dialect, portable bool) {
	r := newRig(t, 2, broadcast.Options{})
	const lifetime = 100 * time.Millisecond
	m := r.open(300, lifetime)
	opts := Options{
		Targets: r.addrs, Dialect: d, Hunt: huntID, Regions: []string{"u4", "9q", "u4xs"}, Standings: true, Portable: portable,
		Backoff: 5 * time.Millisecond, BackoffCap: 50 * time.Millisecond,
	}
	c := open(t, opts)
	n := 60
	c.grow(n)
	first := c.agreed(n)
	for step := range 120 {
		switch {
		case step%11 == 3:
			r.cut(7)
		case step%29 == 5:
			if err := c.DropAll(t.Context()); err != nil {
				t.Fatal(err)
			}
		case step%13 == 7:
			m = r.open(1+rand.IntN(300), lifetime)
		case step%17 == 9:
			r.board(step)
		case step%41 == 40:
			c.grow(10)
			n += 10
		default:
			r.claim(m, rand.IntN(len(m.Tiles)))
		}
		time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
	}
	m = r.open(300, 10*time.Minute)
	for tile := range 10 {
		r.claim(m, tile)
	}
	fresh := open(t, opts)
	fresh.grow(1)
	until(t, "one that came just now knows what all others know", func() bool { return fresh.agreed(1) == c.agreed(n) })
	l := c.parts.list[0].(*loop)
	if err := l.do(func() {
		used := map[uint32]bool{}
		for slot := range l.members {
			used[l.at(slot).state] = true
		}
		if got, most := len(l.table.states), 1+len(used); got > most { // to know nothing is one, too
			t.Errorf("%d states are kept, want at most %d: nobody is in the others", got, most)
		}
	}); err != nil {
		t.Error(err)
	}
	s := c.sum
	if s.Resumed == 0 || s.Reconnects == 0 || s.Latency.Count() == 0 || first == c.agreed(n) {
		t.Errorf("got %+v; want some to have resumed: the test shows little", s)
	}
	t.Logf("%d deliveries, %d came back, %d resumed, %d restarted, %d skips", s.Deliveries, s.Reconnects, s.Resumed, s.Restarted, s.Skips)
}

// TestDrain: a gateway that drains is left within the time that it says, for
// another one, and nobody misses anything.
func TestDrain(t *testing.T) {
	r := newRig(t, 2, broadcast.Options{})
	m := r.open(10, time.Minute)
	c := open(t, Options{Targets: r.addrs, Dialect: JSON(), Hunt: huntID, Regions: []string{""}, Backoff: time.Millisecond, BackoffCap: 20 * time.Millisecond})
	const n = 20
	c.grow(n)
	r.hubs[0].Drain(100 * time.Millisecond)
	r.claim(m, 3)
	c.agreed(n)
	c.until("all are at the other", func(s *Stats) bool { return s.Ready == n && r.hubs[1].Connections() == n })
	if c.sum.Drains != n/2 {
		t.Errorf("%d were asked to go, want half of %d", c.sum.Drains, n)
	}
}

// TestHubStall: those who do not read are skipped or closed by the hub, and
// those who do lose nothing.
func TestHubStall(t *testing.T) {
	r := newRig(t, 1, broadcast.Options{StuckFor: time.Second})
	c := open(t, Options{Targets: r.addrs, Dialect: JSON(), Hunt: huntID, Regions: []string{""}, Stalled: 0.1, Backoff: time.Millisecond, BackoffCap: 20 * time.Millisecond})
	const n = 50
	c.grow(n)
	if got, err := c.Stall(t.Context(), 5); got != 5 || err != nil {
		t.Fatalf("got %d, %v", got, err)
	}
	for r.connected() > n-5 { // as the hub sees it: who does not read can't know
		r.open(500, time.Second)
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.agreed(n)
	if c.sum.Reconnects < 5 { // more, where the machine is too busy for those who read, too
		t.Errorf("%d came back, want the 5 that stalled", c.sum.Reconnects)
	}
}

// TestGap: a delta that does not join what is known is counted, by everyone
// who hears it, and they begin anew.
func TestGap(t *testing.T) {
	f := newFake(t, script{hear: func(c net.Conn, message string) {
		frames := []string{
			`{"type":"welcome","epoch":"e","seq":1,"now":"2026-01-02T15:04:05.000Z"}`,
			`{"type":"snapshot","hunt":"oslo","seq":1,"regions":[""],"maps":[]}`,
			`{"type":"delta","hunt":"oslo","region":"","from":1,"seq":3,"opened":[],"closed":[],"claimed":[]}`,
		}
		if message == `{"type":"hello"}` {
			for _, x := range frames {
				_ = ws.WriteFrame(c, ws.NewTextFrame([]byte(x)))
			}
		}
	}})
	c := open(t, Options{Targets: []string{f.addr}, Dialect: JSON(), Hunt: huntID, Regions: []string{""}, Backoff: time.Millisecond, BackoffCap: 10 * time.Millisecond})
	const n = 10
	c.grow(n)
	c.until("all have the delta", func(s *Stats) bool { return s.Deliveries == 2*n })
	f.say(`{"type":"delta","hunt":"oslo","region":"","from":4,"seq":5,"opened":[],"closed":[],"claimed":[]}`, 1)
	s := c.until("all began anew", func(s *Stats) bool { return s.Reconnects == n && s.Ready == n })
	if s.Gaps != n || s.Resumed != 0 || s.Restarted != 0 || s.Skips != 0 {
		t.Errorf("got %+v; want a gap of each, and no resuming", s)
	}
}

// TestWrong: other faults of a server are found too.
func TestWrong(t *testing.T) {
	const head = `{"type":"delta","hunt":"oslo","region":"","from":1,"seq":2,`
	const opened = `"opened":[{"tick":1,"tiles":[{"index":0,"geohash":"u4x","puzzle":"tap","reward":1}]}],"closed":[],`
	for want, frame := range map[string]string{
		wrongRegion:  `{"type":"delta","hunt":"oslo","region":"u4","from":1,"seq":2,"opened":[],"closed":[],"claimed":[]}`,
		wrongTile:    head + opened + `"claimed":[{"map":1,"tile":1,"player":"a","name":"A"}]}`,
		wrongHolder:  head + opened + `"claimed":[{"map":1,"tile":0,"player":"a","name":"A"},{"map":1,"tile":0,"player":"b","name":"B"}]}`,
		wrongChanged: head + `"opened":[{"tick":1,"tiles":[{"index":0,"geohash":"u4x"},{"index":0,"geohash":"u4y"}]}],"closed":[],"claimed":[]}`,
		wrongBack:    `{"type":"snapshot","hunt":"oslo","seq":0,"regions":[""],"maps":[]}`,
	} {
		t.Run(want, func(t *testing.T) {
			o := Options{Regions: []string{""}}
			tongue, err := newJSONTongue(&o)
			if err != nil {
				t.Fatal(err)
			}
			x := newTable(tongue, []cairn.Cell{0})
			s := x.nothing
			for i, part := range []string{
				`{"type":"welcome","epoch":"e","seq":1,"now":"2026-01-02T15:04:05.000Z"}`,
				`{"type":"snapshot","hunt":"oslo","seq":1,"regions":[""],"maps":[]}`,
				frame,
			} {
				st := x.hear(s.id, []byte(part), uint64(i))
				if i < 2 && st.wrong != nil || i == 2 && !slices.Contains(st.wrong, want) || st.err != nil {
					t.Fatalf("%s: got %q, %v", part, st.wrong, st.err)
				}
				to := x.enter(st.to)
				x.leave(s)
				s = to
			}
		})
	}
}
