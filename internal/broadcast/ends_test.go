package broadcast

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// TestDrain sends everyone elsewhere, those who stay too.
func TestDrain(t *testing.T) { eachCodec(t, testDrain) }

func testDrain(t *testing.T) {
	r := newRig(t, Options{})
	r.open("u4xsu")
	cs := make([]*client, 10)
	for i := range cs {
		cs[i], _ = r.join("u4")
	}
	sub, err := r.hub.Subscribe(Interest{Hunt: huntID, Regions: []cairn.Cell{0}}, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan string, 1)
	go func() {
		var all strings.Builder
		defer sub.Close()
		for {
			fs, err := sub.Next(t.Context())
			if err != nil {
				events <- fmt.Sprintf("%s%v", all.String(), err)
				return
			}
			for _, f := range fs {
				all.Write(f)
			}
		}
	}()
	drained := make(chan struct{})
	go func() { r.hub.Drain(time.Second); close(drained) }()
	for i, c := range cs {
		if d := c.want("drain"); d.WithinMS <= 0 || d.WithinMS > 1000 {
			t.Errorf("got %s; want 0 < within_ms ≤ 1000", d.raw)
		}
		if i%2 == 0 { // obeys
			c.ws.CloseNow()
		}
	}
	for i, c := range cs {
		if i%2 == 1 {
			if code, _ := c.closed(); code != 1001 {
				t.Errorf("got close code %d, want 1001", code)
			}
		}
	}
	<-drained
	if got := <-events; !strings.Contains(got, "event: drain\ndata: {\"type\":\"drain\",\"within_ms\":") || !strings.HasSuffix(got, ErrDraining.Error()) {
		t.Errorf("got events %s; want a drain and then the end", got)
	}
	r.until("the drained are gone", func() bool { return r.metric("cairn_broadcast_connections") == 0 })
	if code, _ := r.dial().closed(); code != 1012 {
		t.Errorf("got close code %d for one who comes late, want 1012", code)
	}
	if _, err := r.hub.Subscribe(Interest{Hunt: huntID}, Resume{}); !errors.Is(err, ErrDraining) {
		t.Errorf("got %v, want ErrDraining", err)
	}
}

// parseEvents cuts a stream of events.
func parseEvents(t *testing.T, fs [][]byte) (ids []string, ms []msg) {
	t.Helper()
	for _, f := range fs {
		id, event, data := "", "", ""
		s, ok := strings.CutSuffix(string(f), "\n\n")
		if !ok {
			t.Fatalf("event %q does not end in an empty line", f)
		}
		for line := range strings.SplitSeq(s, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "id":
				id = value
			case "event":
				event = value
			case "data":
				data = value
			default:
				t.Fatalf("unexpected line %q", line)
			}
		}
		m, err := parseMsg([]byte(data))
		if err != nil || m.Type != event {
			t.Fatalf("event %q: %v", f, err)
		}
		ids, ms = append(ids, id), append(ms, m)
	}
	return ids, ms
}

func TestEvents(t *testing.T) {
	r := newRig(t, Options{})
	m := r.open("u4xsu", "9q8yy")
	interest := Interest{Hunt: huntID, Regions: []cairn.Cell{0}}
	sub, err := r.hub.Subscribe(interest, Resume{})
	if err != nil {
		t.Fatal(err)
	}
	next := func() (string, msg) {
		t.Helper()
		fs, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ids, ms := parseEvents(t, fs)
		if len(ms) != 1 {
			t.Fatalf("got %d events, want 1", len(ms))
		}
		return ids[0], ms[0]
	}
	f := newModel("")
	id, snap := next()
	if err := f.apply(snap); err != nil || snap.Type != "snapshot" || len(snap.Maps[0].Tiles) != 2 {
		t.Fatalf("got %s, %v; want a snapshot with two tiles", snap.raw, err)
	}
	if got := ParseResume(id); got.Seq != snap.Seq || got.Epoch == "" {
		t.Errorf("got id %q of sweep %d", id, snap.Seq)
	}
	r.claim(r.claimOf(m, 0, "ana"))
	id, d := next()
	if err := f.apply(d); err != nil || d.Type != "delta" || d.Claimed[0].Player != "ana" {
		t.Errorf("got %s, %v; want ana's claim", d.raw, err)
	}
	sub.Close()
	sub.Close()

	r.claim(r.claimOf(m, 1, "bo"))
	r.until("the claim is folded", func() bool {
		r.hub.mu.RLock()
		defer r.hub.mu.RUnlock()
		return r.hub.life.state.find(huntID, m.Tick).holders[1].who != nil
	})
	if sub, err = r.hub.Subscribe(interest, ParseResume(id)); err != nil {
		t.Fatal(err)
	}
	defer func() { sub.Close() }()
	for f.maps[int64(m.Tick)].holders[1] == "" {
		_, d = next()
		if err := f.apply(d); err != nil || d.Type != "delta" {
			t.Fatalf("got %s, %v; want only deltas after a resume", d.raw, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sub.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	for _, bad := range []Interest{
		{Hunt: "bergen"},
		{Hunt: huntID, Regions: make([]cairn.Cell, 65)},
		{Hunt: huntID, Regions: []cairn.Cell{cairn.CellOfBits(0, 9)}},
	} {
		if _, err := r.hub.Subscribe(bad, Resume{}); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestParseResume(t *testing.T) {
	for in, want := range map[string]Resume{
		"0a1b-17": {"0a1b", 17}, "": {}, "x": {}, "x-": {}, "x--1": {}, "x-1.5": {}, "-": {},
		"x-99999999999999999999999": {},
	} {
		if got := ParseResume(in); got != want {
			t.Errorf("%q: got %+v, want %+v", in, got, want)
		}
	}
}

// TestStandings: boards reach those who asked, and only boards that concern
// what they watch.
func TestStandings(t *testing.T) { eachCodec(t, testStandings) }

func testStandings(t *testing.T) {
	r := newRig(t, Options{StandingRows: 2})
	r.open("u4xsu")
	board := func(region string, at cairn.Instant, players ...string) {
		c, err := cairn.ParseCell(region)
		if err != nil {
			t.Fatal(err)
		}
		b := &wire.Board{
			BoardKey: wire.BoardKey{Hunt: huntID, Region: c}, Players: len(players), Newest: at, Published: at.Add(7 * time.Millisecond),
			AsOf: []wire.ShardOffset{{Shard: 1, Offset: eventlog.Offset{Epoch: 1, Seq: 9}}},
		}
		for i, p := range players {
			b.Rows = append(b.Rows, wire.Row{Rank: i + 1, Player: cairn.PlayerID(p), Name: p, Score: cairn.Micro(100 - i), Claims: 1})
		}
		r.append(r.standings, wire.AppendBoard(nil, b))
	}
	board("", r.instant(), "ana")
	r.until("the board is folded", func() bool {
		r.hub.mu.RLock()
		defer r.hub.mu.RUnlock()
		return len(r.hub.life.state.boards) == 1
	})
	r.sweep()
	c := r.dial()
	c.hello("")
	c.send(watchText(true, "u4xs"))
	if snap := c.want("snapshot"); len(snap.Standings) != 1 || snap.Standings[0].Rows[0].Player != "ana" {
		t.Errorf("got %s; want ana's board in it", snap.raw)
	}
	quiet, snap := r.join("u4xs")
	if strings.Contains(snap.raw, "standings") {
		t.Errorf("got %s; want no standings for who did not ask", snap.raw)
	}
	board("9q", r.instant(), "cy")
	board("u4", r.instant().Add(time.Second), `bo "<é>"`, "ana", "cy")
	b := c.want("standings")
	if b.Region != "u4" || b.Window != "hunt" || b.LagMS != 7 || b.Players != 3 || len(b.Rows) != 2 || b.AsOf["s01"] != "1-9" ||
		b.Rows[0].Player != `bo "<é>"` || b.Rows[1].Rank != 2 || b.Rows[1].Score != 99 {
		t.Errorf("got %s; want the first two of u4's three", b.raw)
	}
	r.until("the delivery is observed", func() bool { return r.metric("cairn_standings_delivery_seconds") == 1 })
	board("", r.instant(), "ana") // published anew, with nothing new in it
	if b = c.want("standings"); b.Region != "" || b.LagMS != 0 {
		t.Errorf("got %s; want everywhere's board, and late for nobody", b.raw)
	}
	board("", r.instant().Add(-time.Second).Add(-7*time.Millisecond), "old")
	r.sweep()
	c.send(`{"type":"ping"}`)
	if m, err := c.read(); err != nil || m.Type != "pong" {
		t.Errorf("got %s, %v; want no board older than the one known", m.raw, err)
	}
	if n := r.metric("cairn_standings_delivery_seconds"); n != 1 {
		t.Errorf("got %v deliveries observed; want 1: the second board had no new claim", n)
	}
	quiet.send(`{"type":"ping"}`)
	if m, err := quiet.read(); err != nil || m.Type != "pong" {
		t.Errorf("got %s, %v; want nothing for who did not ask", m.raw, err)
	}
}

// A forgetfulStore is a store whose followers can be told that their log was
// rolled back, as a failover may do.
type forgetfulStore struct {
	eventlog.Store
	diverge atomic.Bool
}

type forgetfulFollower struct {
	eventlog.Follower
	s *forgetfulStore
}

func (s *forgetfulStore) Follow(ctx context.Context, log eventlog.Name, after eventlog.Offset) (eventlog.Follower, error) {
	f, err := s.Store.Follow(ctx, log, after)
	return &forgetfulFollower{f, s}, err
}

func (f *forgetfulFollower) Next(ctx context.Context) ([]eventlog.Record, eventlog.Offset, error) {
	recs, mark, err := f.Follower.Next(ctx)
	if err == nil && f.s.diverge.CompareAndSwap(true, false) {
		return nil, mark, fmt.Errorf("s00: %w", eventlog.ErrDiverged)
	}
	return recs, mark, err
}

// TestBornAnew: when a log was rolled back the hub folds it anew, in a new
// epoch, and every client gets a welcome and a snapshot.
func TestBornAnew(t *testing.T) { eachCodec(t, testBornAnew) }

func testBornAnew(t *testing.T) {
	store := &forgetfulStore{}
	r := newRigOn(t, Options{}, func(s eventlog.Store) eventlog.Store { store.Store = s; return store })
	m := r.open("u4xsu", "u4xsv")
	c := r.dial()
	epoch := c.hello("").Epoch
	c.send(watchText(false, "u4"))
	first := c.want("snapshot")
	r.claim(r.claimOf(m, 0, "ana"))
	c.want("delta")
	store.diverge.Store(true)
	r.claim(r.claimOf(m, 1, "bo"))
	w, err := c.read()
	if err != nil || w.Type != "welcome" || w.Epoch == epoch {
		t.Fatalf("got %s, %v; want a welcome to a new epoch", w.raw, err)
	}
	snap, err := c.read()
	if err != nil || snap.Type != "snapshot" || snap.Seq <= first.Seq || len(snap.Maps[0].Claimed) != 2 {
		t.Fatalf("got %s, %v; want a snapshot with both claims", snap.raw, err)
	}
	n := r.open("u4xsu")
	if d := c.want("delta"); len(d.Opened) != 1 || d.Opened[0].Tick != int64(n.Tick) || d.From > snap.Seq {
		t.Errorf("got %s; want the next map, from at most %d", d.raw, snap.Seq)
	}
	if n := r.metric("cairn_broadcast_restarts_total"); n != 1 {
		t.Errorf("got %v restarts, want 1", n)
	}
}

// TestStart folds what stood in the logs before the hub did: what is open, and
// the maps of the last minutes; claims that came before their map's record was
// read wait for it.
func TestStart(t *testing.T) { eachHalf(t, testStart) }

func testStart(t *testing.T) {
	r := newRig(t, Options{})
	old := r.open("u4xsu")
	r.pass(5 * time.Minute)
	m := r.open("u4xsu", "u4xsv")
	r.claim(r.claimOf(m, 1, "ana"))
	// The owner of every shard says that only what follows matters.
	for _, w := range r.shards {
		if _, err := w.Append(t.Context(), wire.AppendClaims(nil, nil), w.Fence()); err != nil {
			t.Fatal(err)
		}
	}
	early := r.newMap(0, "u4xsu")
	r.claim(r.claimOf(early, 0, "bo"))

	h := New(r.store, Options{Now: r.hub.opts.Now, Sweep: 5 * time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	r.until("the second hub is ready", func() bool { return h.Ready() == nil })
	if _, ok := h.Map(huntID, old.Tick); !ok {
		t.Error("the map of five minutes ago is not known")
	}
	if got, ok := h.Current(huntID, r.instant()); !ok || got.Tick != m.Tick {
		t.Errorf("got current map %v, want %d", got, m.Tick)
	}
	if _, ok := h.Current(huntID, old.Opens-1); ok {
		t.Error("there is a current map before the first one opened")
	}
	if hunts := h.Hunts(); len(hunts) != 1 || hunts[0].State != cairn.Live || h.Hunt(huntID) == nil || h.Hunt("bergen") != nil {
		t.Errorf("got hunts %+v", hunts)
	}
	h.mu.RLock()
	if got := h.life.state.find(huntID, m.Tick).holders; got == nil || got[1].who.name != "Name of ana" {
		t.Errorf("got holders %+v, want ana on tile 1", got)
	}
	h.mu.RUnlock()
	r.append(r.maps, wire.AppendMapChunk(nil, early, 0))
	r.append(r.maps, wire.AppendMapHeader(nil, &early.MapHeader))
	r.until("the early claim has its map", func() bool {
		h.mu.RLock()
		defer h.mu.RUnlock()
		ms := h.life.state.find(huntID, early.Tick)
		return ms != nil && ms.holders != nil && ms.holders[0].who.name == "Name of bo" && h.life.state.earlyCount == 0
	})
	r.pass(6 * time.Minute)
	r.until("the old map is forgotten", func() bool { _, ok := h.Map(huntID, old.Tick); return !ok })
	stop()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestKnob turns the sweep's period live, and leaves alone what makes no
// sense.
func TestKnob(t *testing.T) { eachHalf(t, testKnob) }

func testKnob(t *testing.T) {
	r := newRig(t, Options{})
	for _, test := range []struct {
		value string
		want  time.Duration
	}{{"20ms", 20 * time.Millisecond}, {"soon", 20 * time.Millisecond}, {"1ms", 20 * time.Millisecond}, {"1h", 20 * time.Millisecond}, {"7ms", 7 * time.Millisecond}} {
		r.change(cairn.Change{Knob: sweepKnob, Value: test.value})
		r.until("the knob is known", func() bool {
			r.hub.mu.RLock()
			defer r.hub.mu.RUnlock()
			return r.hub.life.state.hunts.Knobs[sweepKnob] == test.value
		})
		if got := r.hub.period(); got != test.want {
			// The period is set under the same lock as the knob is folded.
			t.Errorf("%s: got %v, want %v", test.value, got, test.want)
		}
	}
}

// TestKnobPrecision lowers the longest geohash of a region live: whoever asks for
// a finer one hears the limit, and whoever watches one goes on.
func TestKnobPrecision(t *testing.T) { eachHalf(t, testKnobPrecision) }

func testKnobPrecision(t *testing.T) {
	r := newRig(t, Options{})
	turn := func(value string) {
		r.change(cairn.Change{Knob: precisionKnob, Value: value})
		r.until("the knob is known", func() bool {
			r.hub.mu.RLock()
			defer r.hub.mu.RUnlock()
			return r.hub.life.state.hunts.Knobs[precisionKnob] == value
		})
	}
	watch := func(c *client, region string) {
		c.send(fmt.Sprintf(`{"type":"watch","hunt":"oslo","regions":[%q]}`, region))
	}
	before := r.dial()
	before.hello("")
	watch(before, "u4xsu0d")
	before.want("snapshot")

	turn("5")
	c := r.dial()
	c.hello("")
	watch(c, "u4xsu0")
	if e := c.want("error"); e.Code != wire.FrameInvalidField || !strings.Contains(e.Detail, "regions[0]: has 6 characters; want at most 5") {
		t.Errorf("got %s, want the limit named", e.raw)
	}
	watch(c, "u4xsu")
	c.want("snapshot")
	before.send(`{"type":"ping"}`)
	before.want("pong")
	r.hub.mu.RLock()
	n := len(r.hub.views)
	r.hub.mu.RUnlock()
	if n != 2 {
		t.Errorf("%d views are watched, want 2: the finer one stays", n)
	}
	for _, nonsense := range []string{"0", "9", "fine", "-1", ""} {
		turn(nonsense)
		if got := r.hub.precisionMax(); got != 5 {
			t.Errorf("%q: the limit is %d, want still 5", nonsense, got)
		}
	}
	turn("8")
	watch(c, "u4xsu0de")
	c.want("snapshot")
}

// TestStoreFails: what the hub can't mend ends it.
func TestStoreFails(t *testing.T) {
	r := newRig(t, Options{})
	h := New(r.store, Options{})
	done := make(chan error, 1)
	go func() { done <- h.Run(context.Background()) }()
	r.until("it is ready", func() bool { return h.Ready() == nil })
	bad := New(emptyStore{r.store}, Options{})
	if err := bad.Run(t.Context()); !errors.Is(err, eventlog.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
	if err := bad.Ready(); !errors.Is(err, ErrDraining) {
		t.Errorf("got %v, want ErrDraining once Run has ended", err)
	}
	r.broken = true
	r.store.Close()
	if err := <-done; !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

type emptyStore struct{ eventlog.Store }

func (emptyStore) Status(_ context.Context, log eventlog.Name) (eventlog.Status, error) {
	return eventlog.Status{}, fmt.Errorf("%s: %w", log, eventlog.ErrMissing)
}
