package leaderboard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// What was published is dropped after a minute, and no sooner: what is then in
// the log names all current boards.
func TestStandingsAreTrimmedAfterTheirMinute(t *testing.T) {
	g := newGame(t)
	clock := time.Unix(1_800_000_000, 0)
	p := New(g.store, Options{Now: func() time.Time { return clock }})
	p.fold = foldLogs(t, testLogs(rand.New(rand.NewPCG(1, 1)), 2, 40), func(int) int { return 0 })
	p.take(nil, nil)
	u := newPublisher(p)
	defer u.close()
	var err error
	if u.w, err = g.store.Open(t.Context(), eventlog.Standings); err != nil {
		t.Fatal(err)
	}
	var rounds []cairn.Instant
	for i := range 20 { // one every ten seconds
		rounds = append(rounds, cairn.InstantOf(clock))
		p.touchCurrent()
		if err := u.round(t.Context()); err != nil {
			t.Fatal(err)
		}
		clock = clock.Add(time.Second)
		u.trimNow(t.Context())
		got := map[cairn.Instant]int{}
		for _, b := range g.standings() {
			got[b.Published]++
		}
		for _, at := range rounds {
			switch age := cairn.InstantOf(clock).Sub(at); {
			case age <= keepFor && got[at] != 4: // two hunts, two windows
				t.Fatalf("round %d: %d boards of %v ago, want 4", i, got[at], age)
			case age > keepFor+10*time.Second && got[at] != 0:
				t.Fatalf("round %d: %d boards of %v ago, want none", i, got[at], age)
			}
		}
		clock = clock.Add(9 * time.Second)
	}
	if len(u.done) > 10 {
		t.Errorf("%d rounds are remembered, want those of a minute", len(u.done))
	}
}

// Boards that changed in one round are as many to a record as fit, and one that
// can't be appended is kept for the next round, with those behind it.
func TestRoundFillsRecords(t *testing.T) {
	const hunts, players = 12, 100
	g := newGame(t)
	at := 1000 * hour
	p := New(g.store, Options{Now: func() time.Time { return at.Time() }})
	n := uint64(0)
	for hunt := range hunts {
		for player := range players {
			n++
			c := cairn.Claim{
				TileRef: cairn.TileRef{Hunt: cairn.HuntID(fmt.Sprint("hunt-", hunt)), Tile: uint32(player)}, Cell: mustCell("u4xs"), At: at,
				Player: cairn.PlayerID(fmt.Sprintf("%060d", player)), Name: fmt.Sprintf("%040d", player), Reward: 1,
			}
			p.fold.testApply(t, testRecord{rec: eventlog.Record{Offset: eventlog.Offset{Epoch: 1, Seq: n}}, claims: []cairn.Claim{c}})
		}
	}
	u := newPublisher(p)
	defer u.close()
	log, err := g.store.Open(t.Context(), eventlog.Standings)
	if err != nil {
		t.Fatal(err)
	}
	w := &stuck{Writer: log, after: 2}
	u.w = w
	if err := u.round(t.Context()); !errors.Is(err, eventlog.ErrPushback) {
		t.Fatalf("got %v, want that the third record is pushed back", err)
	}
	some := len(g.standings())
	if some == 0 || some >= 2*hunts {
		t.Errorf("two records hold %d boards, want some of %d", some, 2*hunts)
	}
	w.after = -1
	if err := u.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	boards := map[wire.BoardKey]int{}
	for _, b := range g.standings() {
		boards[b.BoardKey]++
		if len(b.Rows) != players {
			t.Errorf("board %+v has %d rows, want %d", b.BoardKey, len(b.Rows), players)
		}
	}
	if len(boards) != 2*hunts {
		t.Errorf("got %d boards, want two of each of %d hunts", len(boards), hunts)
	}
	for key, n := range boards {
		if n != 1 {
			t.Errorf("board %+v was published %d times, want once", key, n)
		}
	}
	if w.records < 3 || w.records >= hunts {
		t.Errorf("got %d records, want several, and fewer than boards", w.records)
	}
}

// A stuck writer pushes back after so many records; never if that is below 0.
type stuck struct {
	eventlog.Writer
	after   int
	records int
}

func (w *stuck) Append(ctx context.Context, body []byte, from eventlog.Offset) (eventlog.Offset, error) {
	if w.records == w.after {
		return eventlog.Offset{}, eventlog.ErrPushback
	}
	w.records++
	return w.Writer.Append(ctx, body, from)
}

// standings returns what the standings log holds.
func (g *game) standings() (out []*wire.Board) {
	g.t.Helper()
	st, err := g.store.Status(g.t.Context(), eventlog.Standings)
	if err != nil {
		g.t.Fatal(err)
	}
	f, err := g.store.Follow(g.t.Context(), eventlog.Standings, st.Base)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	for at := st.Base; at.Less(st.Last); {
		recs, _, err := f.Next(g.t.Context())
		if err != nil {
			g.t.Fatal(err)
		}
		for _, r := range recs {
			at = r.Offset
			if r.Kind != eventlog.Data {
				continue
			}
			bs, err := wire.DecodeBoards(r.Body)
			if err != nil {
				g.t.Fatal(err)
			}
			out = append(out, bs...)
		}
	}
	return out
}

// A regional board is on the list while it is looked at, and a minute longer.
func TestRegionsArePublishedWhileWatched(t *testing.T) {
	now := 1000 * hour
	p := New(nil, Options{Now: func() time.Time { return now.Time() }})
	n := 0
	published := func() (regions int) {
		c := cairn.Claim{TileRef: cairn.TileRef{Hunt: "world", Tile: uint32(n)}, Player: "p", Name: "p", At: now, Cell: mustCell("u4xs")}
		n++
		p.fold.testApply(t, testRecord{rec: eventlog.Record{Offset: eventlog.Offset{Epoch: 1, Seq: uint64(n)}}, claims: []cairn.Claim{c}})
		boards, _ := p.take(nil, nil)
		for _, b := range boards {
			if b.region != 0 {
				regions++
			}
		}
		if len(boards)-regions != 2 {
			t.Errorf("%d of the hunt's own boards, want 2", len(boards)-regions)
		}
		return regions
	}
	watch := func() {
		if _, err := p.standings(wire.BoardKey{Hunt: "world", Region: mustCell("u4")}, 1); err != nil {
			t.Fatal("no board")
		}
	}
	for i, c := range []struct {
		watch bool
		later time.Duration
		want  int
	}{{false, 0, 0}, {true, 0, 1}, {false, watchFor - time.Second, 1}, {false, time.Second, 0}, {false, 0, 0}, {true, watchFor, 0}, {true, 0, 1}} {
		if c.watch {
			watch()
		}
		now = now.Add(c.later)
		if got := published(); got != c.want {
			t.Errorf("step %d: %d regional boards, want %d", i, got, c.want)
		}
	}
}

// Run follows the control log: of a hunt that ended a while ago, by the time of
// claims, the hunt's own board stays.
func TestEndedHuntIsDropped(t *testing.T) {
	g := newGame(t)
	p := New(g.store, Options{})
	stop := g.run(p)
	defer stop()
	g.play(0, 30, rand.New(rand.NewPCG(1, 1)))
	g.folded(p)
	w, err := g.store.Open(t.Context(), eventlog.Control)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	long := cairn.InstantOf(time.Now()) - endedFor - 2*minute
	for _, c := range []cairn.Change{{Who: "op", When: long, Hunt: "oslo", State: cairn.Live}, {Who: "op", When: long, Hunt: "oslo", State: cairn.Ended}} {
		body, err := wire.AppendChange(nil, &c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Append(context.Background(), body, eventlog.Offset{}); err != nil {
			t.Fatal(err)
		}
	}
	region := wire.BoardKey{Hunt: "oslo", Region: mustCell("u4xs0")}
	until(t, "its regions are gone", func() bool { _, err := p.standings(region, 1); return err != nil })
	if b, err := p.standings(oslo, 10); err != nil || len(b.Rows) != 10 {
		t.Errorf("got %+v, %v, want the final board", b, err)
	}
}
