package broadcast

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veltrix/cairn"
)

// A model is a client as docs/live.md tells one to be: it folds frames.
type model struct {
	regions []string
	maps    map[int64]*modelMap
	at      map[string]uint64 // by region: up to which sweep it knows all
	epoch   string
	seq     uint64 // the highest seen
	snaps   int
}

type modelMap struct {
	tiles   map[int]string // geohash by index
	holders map[int]string // player by index
}

func newModel(regions ...string) *model {
	return &model{regions: regions, maps: map[int64]*modelMap{}, at: map[string]uint64{}}
}

func (f *model) apply(m msg) error {
	switch m.Type {
	case "welcome":
		f.epoch = m.Epoch
		return nil
	case "snapshot":
		f.snaps++
		clear(f.maps)
		for _, x := range m.Maps {
			f.open(x)
		}
		for _, r := range f.regions {
			f.at[r] = m.Seq
		}
	case "delta":
		if at, ok := f.at[m.Region]; !ok || m.From > at {
			return fmt.Errorf("gap in region %q: delta from %d, had %d", m.Region, m.From, at)
		}
		for _, x := range m.Opened {
			f.open(x)
		}
		for _, c := range m.Claimed {
			f.claimed(c)
		}
		for _, tick := range m.Closed {
			delete(f.maps, tick)
		}
		f.at[m.Region] = max(f.at[m.Region], m.Seq)
	default:
		return fmt.Errorf("unexpected %s", m.raw)
	}
	f.seq = max(f.seq, m.Seq)
	return nil
}

func (f *model) open(x mapMsg) {
	m := f.maps[x.Tick]
	if m == nil {
		m = &modelMap{map[int]string{}, map[int]string{}}
		f.maps[x.Tick] = m
	}
	for _, t := range x.Tiles {
		m.tiles[t.Index] = t.Geohash
	}
	for _, c := range x.Claimed {
		f.claimed(c)
	}
}

func (f *model) claimed(c claimedMsg) {
	if m := f.maps[c.Map]; m != nil {
		m.holders[c.Tile] = c.Player
	}
}

// String renders the model for comparing.
func (f *model) String() string {
	var b strings.Builder
	for _, tick := range slices.Sorted(maps.Keys(f.maps)) {
		m := f.maps[tick]
		fmt.Fprintf(&b, "map %d:", tick)
		for _, i := range slices.Sorted(maps.Keys(m.tiles)) {
			fmt.Fprintf(&b, " %d=%s(%s)", i, m.tiles[i], m.holders[i])
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

// A truth is what the test itself did to the logs.
type truth struct {
	maps   []*cairn.Map
	winner map[cairn.TileRef]string
}

// seen renders what one who watches regions should see at an instant.
func (tr *truth) seen(now cairn.Instant, regions []string) string {
	f := newModel(regions...)
	for _, m := range tr.maps {
		if m.Opens > now || m.Closes <= now {
			continue
		}
		mm := &modelMap{map[int]string{}, map[int]string{}}
		for i, t := range m.Tiles {
			if slices.ContainsFunc(regions, func(r string) bool { return strings.HasPrefix(t.Cell.String(), r) }) {
				mm.tiles[i] = t.Cell.String()
				mm.holders[i] = tr.winner[cairn.TileRef{Hunt: m.Hunt, Tick: m.Tick, Tile: uint32(i)}]
			}
		}
		f.maps[int64(m.Tick)] = mm
	}
	return f.String()
}

var cellsIn = []string{"u4xsu", "u4xsv", "u4xt0", "u4prm", "u4q0b", "u65j0", "9q8yy", "9q8zn", "dr5ru", "u4x"}

// TestFoldEqualsState is the Broadcast Layer's promise: whoever folds the
// frames knows what is true, whatever regions they watch, whenever they join,
// and however often they lose their connection in the middle of anything.
func TestFoldEqualsState(t *testing.T) { eachWay(t, testFoldEqualsState) }

func testFoldEqualsState(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t, Options{Ring: 40})
	tr := &truth{winner: map[cairn.TileRef]string{}}

	type watcher struct {
		c     *client
		f     *model
		codec Codec
	}
	var ws []*watcher
	connects, snaps := 0, 0
	connect := func(w *watcher) {
		connects++
		if rnd.IntN(4) == 0 { // a client may come back in the other codec
			w.codec = codecs - 1 - w.codec
		}
		w.c = r.dialIn(w.codec, nil)
		rest := ""
		if w.f.epoch != "" {
			rest = fmt.Sprintf(`,"epoch":%q,"seq":%d`, w.f.epoch, w.f.seq)
		}
		if err := w.f.apply(w.c.hello(rest)); err != nil {
			t.Fatal(err)
		}
		w.c.send(watchText(false, w.f.regions...))
	}
	// take reads one frame, or until done.
	take := func(w *watcher) {
		m, err := w.c.read()
		if err != nil {
			t.Fatalf("watcher of %v: %v", w.f.regions, err)
		}
		if err := w.f.apply(m); err != nil {
			t.Fatalf("watcher of %v: %v", w.f.regions, err)
		}
	}
	openMap := func(in time.Duration) *cairn.Map {
		cells := make([]string, 1+rnd.IntN(30))
		for i := range cells {
			cells[i] = cellsIn[rnd.IntN(len(cellsIn))]
		}
		if n := len(tr.maps); n > 0 { // maps open in the order of their ticks
			in = max(in, tr.maps[n-1].Opens.Sub(r.instant()))
		}
		m := r.addMap(in, cells...)
		tr.maps = append(tr.maps, m)
		return m
	}
	openMap(0)
	for step := range 400 {
		switch n := rnd.IntN(20); {
		case n == 0 && len(ws) < 12:
			w := &watcher{f: newModel(), codec: Codec(rnd.IntN(int(codecs)))}
			for _, c := range rnd.Perm(len(cellsIn))[:1+rnd.IntN(4)] {
				w.f.regions = append(w.f.regions, cellsIn[c][:rnd.IntN(4)])
			}
			w.f.regions = slices.Compact(slices.Sorted(slices.Values(w.f.regions)))
			connect(w)
			ws = append(ws, w)
		case n == 1:
			openMap(time.Duration(rnd.IntN(3000)) * time.Millisecond)
		case n == 2:
			r.pass(time.Duration(rnd.IntN(4000)) * time.Millisecond)
		case n == 3 && len(ws) > 0: // a connection lost in the middle of anything
			w := ws[rnd.IntN(len(ws))]
			w.c.ws.CloseNow()
			for range rnd.IntN(5) {
				r.sweep()
			}
			connect(w)
		case n < 8 && len(ws) > 0:
			if w := ws[rnd.IntN(len(ws))]; w.f.snaps == 0 {
				take(w)
			}
		default:
			m := tr.maps[rnd.IntN(len(tr.maps))]
			if m.Opens > r.instant() || m.Closes <= r.instant() {
				continue
			}
			tile := rnd.IntN(len(m.Tiles))
			c := r.claimOf(m, tile, fmt.Sprintf("p%d", step))
			r.claim(c)
			if tr.winner[c.TileRef] == "" {
				tr.winner[c.TileRef] = string(c.Player)
			}
		}
	}
	// A last map tells each watcher that all before it has come: it is only
	// appended once the claims are folded.
	r.until("all claims are folded", func() bool {
		r.hub.mu.RLock()
		defer r.hub.mu.RUnlock()
		for ref, player := range tr.winner {
			if m := r.hub.life.state.find(ref.Hunt, ref.Tick); m != nil && m.Closes > r.instant() {
				if m.holders == nil || m.holders[ref.Tile].who == nil {
					return false
				} else if got := m.holders[ref.Tile].who.name; got != "Name of "+player {
					t.Fatalf("%v: got holder %s, want %s", ref, got, player)
				}
			}
		}
		return true
	})
	last := openMap(0)
	r.pass(max(0, last.Opens.Sub(r.instant())))
	for _, w := range ws {
		for w.f.maps[int64(last.Tick)] == nil || slices.ContainsFunc(w.f.regions, func(reg string) bool {
			return w.f.at[reg] < w.f.seq
		}) {
			take(w)
		}
		if got, want := w.f.String(), tr.seen(r.instant(), w.f.regions); got != want {
			t.Errorf("watcher of %q: got\n%swant\n%s", w.f.regions, got, want)
		}
		snaps += w.f.snaps
	}
	t.Logf("%d watchers connected %d times and needed %d snapshots", len(ws), connects, snaps)
	if len(ws) == 0 || snaps >= connects {
		t.Errorf("%d watchers, %d connects, %d snapshots: nobody resumed, and the test shows little", len(ws), connects, snaps)
	}
}

// TestResume shows when a client that comes back hears only what it missed.
func TestResume(t *testing.T) { eachCodec(t, testResume) }

func testResume(t *testing.T) {
	r := newRig(t, Options{Ring: 50})
	m := r.open(cellsIn...)
	c, snap := r.join("u4")
	f := newModel("u4")
	if err := f.apply(snap); err != nil {
		t.Fatal(err)
	}
	epoch := r.dial().hello("").Epoch
	lose := func(c *client) { c.ws.CloseNow() }
	back := func(epoch string, seq uint64) (*client, msg) {
		c := r.dial()
		c.hello(fmt.Sprintf(`,"epoch":%q,"seq":%d`, epoch, seq))
		c.send(watchText(false, "u4"))
		m, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		return c, m
	}

	lose(c)
	r.until("nobody watches", func() bool {
		return r.metric("cairn_broadcast_connections") <= 1 && r.metric("cairn_broadcast_views") == 0
	})
	encodes := r.metric("cairn_broadcast_encodes_total")
	r.claim(r.claimOf(m, 0, "ana"))
	r.until("the claim is folded", func() bool {
		r.hub.mu.RLock()
		defer r.hub.mu.RUnlock()
		return r.hub.life.state.find(huntID, m.Tick).holders != nil
	})
	r.sweep()
	if got := r.metric("cairn_broadcast_encodes_total"); got != encodes {
		t.Errorf("%v frames were encoded while nobody watched", got-encodes)
	}

	c, got := back(epoch, f.seq)
	if got.Type != "delta" || len(got.Claimed) != 1 || got.Claimed[0].Player != "ana" {
		t.Errorf("got %s; want the delta that was missed", got.raw)
	}
	if err := f.apply(got); err != nil {
		t.Error(err)
	}
	lose(c)

	r.until("the ring has moved on", func() bool {
		r.sweep()
		r.hub.mu.RLock()
		defer r.hub.mu.RUnlock()
		return len(r.hub.index.regions) == 0
	})
	if c, got = back(epoch, f.seq); got.Type != "snapshot" || len(got.Maps[0].Claimed) != 1 {
		t.Errorf("beyond the ring: got %s; want a snapshot", got.raw)
	}
	if _, got = back("another", got.Seq); got.Type != "snapshot" {
		t.Errorf("of another epoch: got %s; want a snapshot", got.raw)
	}
	if _, got = back(epoch, got.Seq+1_000_000); got.Type != "snapshot" {
		t.Errorf("of a sweep yet to come: got %s; want a snapshot", got.raw)
	}
	lose(c)
}

// framesOf folds what a subscription has to say now, and returns it.
func framesOf(t *testing.T, s *Subscription, f *model) []msg {
	t.Helper()
	fs, _ := s.feed.collect(nil, false)
	_, ms := parseEvents(t, s.events(fs))
	for _, m := range ms {
		if err := f.apply(m); err != nil {
			t.Error(err)
		}
	}
	return ms
}

// TestJoinBetweenClaimAndSweep: a region that is born after a claim of a map
// that no sweep has opened yet, and before that sweep.
func TestJoinBetweenClaimAndSweep(t *testing.T) {
	x := newBenchHub(t, 1, 4)
	m := *x.maps[0].Map
	m.Tick, m.Opens = firstTick+7, x.now.Add(time.Minute) // by a clock here that is late
	x.mu.Lock()
	x.life.state.addMap(&m, x.now)
	x.maps = []*mapState{x.life.state.find(huntID, firstTick+7)}
	x.mu.Unlock()
	x.claim(1)
	s, err := x.Subscribe(Interest{Hunt: huntID, Regions: []cairn.Cell{0}}, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := newModel("")
	framesOf(t, s, f)
	x.sweep()
	framesOf(t, s, f)
	if mm := f.maps[int64(firstTick+7)]; mm == nil || mm.holders[0] != "player-17" {
		t.Errorf("got %+v; want the map with its claim", mm)
	}
}

// TestResumeInTheMiddleOfASweep: a client that got one of two frames of a
// sweep gets the other when it comes back.
func TestResumeInTheMiddleOfASweep(t *testing.T) {
	x := newBenchHub(t, 1, 2)
	a, b := x.maps[0].Tiles[0].Cell.Prefix(3), x.maps[0].Tiles[1].Cell.Prefix(3)
	if a == b {
		t.Fatalf("both tiles lie in %v", a)
	}
	interest := Interest{Hunt: huntID, Regions: []cairn.Cell{a, b}}
	s, err := x.Subscribe(interest, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	f := newModel(a.String(), b.String())
	framesOf(t, s, f)
	x.claim(2)
	x.sweep()
	fs, _ := s.feed.collect(nil, false)
	if len(fs) != 2 || fs[0].seq != fs[1].seq {
		t.Fatalf("got %d frames, want two of one sweep", len(fs))
	}
	_, ms := parseEvents(t, s.events(fs[:1])) // and then the connection is lost
	if err := f.apply(ms[0]); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if s, err = x.Subscribe(interest, Resume{x.life.epoch, f.seq}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	framesOf(t, s, f)
	if got := f.maps[int64(firstTick)].holders; len(got) != 2 || f.snaps != 1 {
		t.Errorf("got holders %v after %d snapshots; want both claims after one", got, f.snaps)
	}
}

// TestRingBytes shows that the ring of a busy region is bounded by bytes too.
func TestRingBytes(t *testing.T) {
	var r region
	for seq := range uint64(100) {
		r.push(deltaOf(seq+1, 1000), 1000, 10_500)
	}
	if len(r.ring) != 10 || r.base != 90 || r.last != 100 || r.ringBytes > 10_500 {
		t.Errorf("got %d deltas, %d bytes, (%d, %d]; want 10 in (90, 100]", len(r.ring), r.ringBytes, r.base, r.last)
	}
	for range 3 {
		r.push(deltaOf(r.last+1, 50_000), 1000, 10_500)
	}
	if len(r.ring) != 1 {
		t.Errorf("got %d deltas larger than the ring; want the newest alone", len(r.ring))
	}
}

// deltaOf returns a delta whose frame has a payload of size bytes.
func deltaOf(seq uint64, size int) delta {
	f := newFrame(JSON, kindDelta, seq, append(room(0), make([]byte, size)...))
	return delta{seq: seq, frames: [codecs]*frame{JSON: f}}
}
