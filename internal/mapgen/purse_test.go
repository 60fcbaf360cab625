package mapgen

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// TestBudgetComesBack spends a budget, lets it come back, and spends it for good.
func TestBudgetComesBack(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Lifetime: cairn.Duration(5 * time.Second), Reward: cairn.Reward{Min: 10, Max: 10, Budget: 350}})
	l := r.start()
	defer l.end()
	l.run(5 * time.Second)
	offers := func() (os []cairn.Micro) {
		for _, m := range r.maps(h) {
			os = append(os, m.Offer)
		}
		return os
	}
	if got, want := offers(), []cairn.Micro{100, 100, 100, 50, 0}; !equal(got, want) {
		t.Fatalf("offers are %v, want %v", got, want)
	}
	ms := r.maps(h)
	won := r.claim(ms[1], 0, 3, 7)
	l.run(13 * time.Second) // the first closed at 6 s and its grace ended at 16 s; the second's ends at 17 s
	if got := sum(offers()); got != 350+100 {
		t.Errorf("offers after the first map's grace sum to %d, want 350 and the 100 that came back: %v", got, offers())
	}
	l.run(15 * time.Second)
	if got, want := l.left()+l.courses["test"].purse.offered(), h.Reward.Budget-won; got != want {
		t.Errorf("left and offered are %d, want budget less claimed, %d", got, want)
	}

	// Every map is claimed whole from here on, until nothing is left.
	paid := won
	for seen := len(ms); paid < h.Reward.Budget; {
		if len(r.maps(h)) > 200 {
			t.Fatalf("paid %d of %d after 200 maps", paid, h.Reward.Budget)
		}
		l.run(time.Second)
		for _, m := range r.maps(h)[seen:] {
			if m.Opens <= r.instant() && r.instant() < m.Closes {
				paid += r.claim(m, allTiles(m)...)
			}
			seen++
		}
	}
	if paid != h.Reward.Budget {
		t.Errorf("paid %d, want the budget, %d, to the last unit", paid, h.Reward.Budget)
	}
	n := len(r.maps(h))
	l.run(40 * time.Second)
	for _, m := range r.maps(h)[n:] {
		if m.Offer != 0 || len(m.Tiles) != h.TilesPerMap {
			t.Fatalf("tick %d offers %d on %d tiles, want 0 on %d: the budget is spent", m.Tick, m.Offer, len(m.Tiles), h.TilesPerMap)
		}
	}
}

func equal(a, b []cairn.Micro) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func sum(as []cairn.Micro) (s cairn.Micro) {
	for _, a := range as {
		s += a
	}
	return s
}

// TestClaimsSettleAtOnce shows that busy shards need no grace: claims from
// after a map's close in each of them settle it.
func TestClaimsSettleAtOnce(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Lifetime: cairn.Duration(2 * time.Second), TilesPerMap: 100, Reward: cairn.Reward{Min: 10, Max: 10, Budget: 10_000}})
	l := r.start()
	defer l.end()
	l.run(3500 * time.Millisecond) // the first map, 1 s to 3 s, is over
	ms := r.maps(h)
	if ms[0].Closes > r.instant() {
		t.Fatalf("the first map closes at %v, and it is %v", ms[0].Closes, r.instant())
	}
	l.step()
	if got := l.courses["test"].purse.settled; got != noTick {
		t.Fatalf("settled up to %d before any claim", got)
	}
	var first, others []int // tiles of shard 0, and of the others
	slots := cairn.SlotterOf(ms[1].Hunt, ms[1].Tick)
	for i := range ms[1].Tiles {
		if cairn.ShardOf(slots.Slot(uint32(i)), ms[1].Shards) == 0 {
			first = append(first, i)
		} else {
			others = append(others, i)
		}
	}
	r.claim(ms[1], first...)
	l.step()
	if got := l.courses["test"].purse.settled; got != noTick {
		t.Fatalf("settled up to %d, and only one shard has spoken", got)
	}
	r.claim(ms[1], others...)
	l.step()
	if got := l.courses["test"].purse.settled; got != ms[0].Tick {
		t.Errorf("settled up to %d, want %d", got, ms[0].Tick)
	}
}

// TestGrace appends claims as late as an owner may. Until then, nothing of
// their map is offered to anybody else.
func TestGrace(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Lifetime: cairn.Duration(2 * time.Second), Reward: cairn.Reward{Min: 10, Max: 10, Budget: 1000}})
	l := r.start()
	defer l.end()
	l.run(10_900 * time.Millisecond)
	m, at := r.maps(h)[8], r.instant() // open from 9 s to 11 s
	if at < m.Opens || at >= m.Closes || m.Offer != 100 {
		t.Fatalf("tick %d offers %d, open %v to %v, and it is %v; want 100, open", m.Tick, m.Offer, m.Opens, m.Closes, at)
	}
	l.run(10 * time.Second) // to 9.9 s after the close; maps closed at 10 s and before are settled
	if settled := l.courses["test"].purse.settled; settled < m.Tick-2 || settled >= m.Tick {
		t.Errorf("settled up to %d, want %d or the one before", settled, m.Tick-1)
	}
	won := r.claimAt(at, m, allTiles(m)[:9]...)
	l.run(20 * time.Second)
	if got, want := l.left()+l.courses["test"].purse.offered(), h.Reward.Budget-won; got != want || won != 90 {
		t.Errorf("left and offered are %d, want %d: %d were won", got, want, won)
	}
	if got := r.counter("cairn_late_claims_total"); got != 0 {
		t.Errorf("cairn_late_claims_total is %v, want 0", got)
	}
}

// TestLateClaim breaks the promise of an owner: a claim of a map that was
// settled. What it takes is held back from the maps to come.
func TestLateClaim(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Lifetime: cairn.Duration(2 * time.Second), Reward: cairn.Reward{Min: 10, Max: 10, Budget: 1000}})
	l := r.start()
	l.run(30 * time.Second)
	ms := r.maps(h)
	won := r.claim(ms[len(ms)-2], allTiles(ms[len(ms)-2])...) // so that what is behind it is read again
	m := ms[0]
	late := r.claimAt(m.Opens, m, 0, 1)
	l.run(time.Second)
	if got := r.counter("cairn_late_claims_total"); got != 2 {
		t.Errorf("cairn_late_claims_total is %v, want 2", got)
	}
	for range 3 { // takeovers must not count it again, nor forget it
		l.end()
		// One that dies before it has read anything of the shards' logs.
		brief, err := r.gen.open(r.ctx)
		r.must(err)
		_, err = brief.step(r.ctx)
		r.must(err)
		brief.close()
		l = r.start()
		l.run(5 * time.Second)
		if got, want := l.left()+l.courses["test"].purse.offered(), h.Reward.Budget-late-won; got != want {
			t.Errorf("left and offered are %d, want %d", got, want)
		}
	}
	l.end()
	if got := r.counter("cairn_late_claims_total"); got != 2 {
		t.Errorf("cairn_late_claims_total is %v after takeovers, want 2", got)
	}
}

// TestDuplicateGrantCountsOnce folds a tile granted twice: the first stands.
func TestDuplicateGrantCountsOnce(t *testing.T) {
	p := purse{left: 100, settled: noTick}
	p.emit(&cairn.MapHeader{Tick: 1, Closes: 10, Shards: 1, Tiles: 2, Offer: 60}, eventlog.Offset{})
	for range 2 {
		p.claim(&cairn.Claim{TileRef: cairn.TileRef{Tick: 1, Tile: 1}, Reward: 20})
	}
	p.claim(&cairn.Claim{TileRef: cairn.TileRef{Tick: 1, Tile: 2}, Reward: 1000}) // no such tile
	p.settle(func(int) cairn.Instant { return 10 })
	if p.left != 80 {
		t.Errorf("left is %d, want 80", p.left)
	}
}

// TestLostClaims takes over when the claims of maps that are not settled have
// been trimmed: what those offered is never offered again.
func TestLostClaims(t *testing.T) {
	r := rigOf(t)
	h := r.hunt(cairn.Hunt{Lifetime: cairn.Duration(5 * time.Second), Reward: cairn.Reward{Min: 10, Max: 10, Budget: 1000}})
	l := r.start()
	l.run(3 * time.Second)
	ms := r.maps(h)
	r.claim(ms[0], allTiles(ms[0])...)
	l.end()
	for i := range r.shards {
		st, err := r.store.Status(r.ctx, eventlog.Shard(i))
		r.must(err)
		r.must(r.store.Trim(r.ctx, eventlog.Shard(i), st.Last))
	}
	r.advance(7 * time.Hour)
	l = r.start()
	defer l.end()
	l.run(30 * time.Second)
	if got, want := l.left()+l.courses["test"].purse.offered(), h.Reward.Budget-300; got != want {
		t.Errorf("left and offered are %d, want %d", got, want)
	}
}

// TestBudgetProperty plays a hunt of random claims, stalls, pauses and
// takeovers on a real log, in which claims land as late as their owners may,
// and holds at every step that the budget can't be overspent, and at the end
// that none of it was lost.
func TestBudgetProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t)
		defer r.stop()
		h := r.hunt(cairn.Hunt{
			Lifetime: cairn.Duration(time.Duration(rapid.IntRange(1, 6).Draw(t, "lifetime")) * time.Second),
			Reward:   cairn.Reward{Min: cairn.Micro(rapid.IntRange(0, 5).Draw(t, "min")), Max: 10, Budget: cairn.Micro(rapid.IntRange(0, 600).Draw(t, "budget"))},
		})
		l := r.start()
		defer func() { l.end() }()
		type held struct { // claims that were received and are not appended yet
			m     *cairn.Map
			tiles []int
			at    cairn.Instant
		}
		var waiting []held
		taken := map[cairn.TileRef]bool{}
		paid := cairn.Micro(0)
		land := func() {
			for _, w := range waiting {
				paid += r.claimAt(w.at, w.m, w.tiles...)
			}
			waiting = nil
		}
		check := func() {
			open := cairn.Micro(0)
			for _, m := range r.maps(h) {
				if r.instant() >= m.Closes {
					continue
				}
				for i, tile := range m.Tiles {
					if !taken[cairn.TileRef{Hunt: m.Hunt, Tick: m.Tick, Tile: uint32(i)}] {
						open += tile.Reward
					}
				}
			}
			for _, w := range waiting {
				for _, i := range w.tiles {
					open += w.m.Tiles[i].Reward
				}
			}
			if paid+open > h.Reward.Budget {
				t.Fatalf("%d are paid and %d could be claimed, over the budget of %d", paid, open, h.Reward.Budget)
			}
		}
		for range rapid.IntRange(3, 25).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"run", "run", "claim", "claim", "claim", "hold", "land", "stall", "takeover", "pause"}).Draw(t, "do") {
			case "run":
				land()
				l.run(time.Duration(rapid.IntRange(100, 8000).Draw(t, "ms")) * time.Millisecond)
			case "claim", "hold":
				for _, m := range r.maps(h) {
					if m.Opens > r.instant() || r.instant() >= m.Closes {
						continue
					}
					w := held{m: m, at: r.instant()}
					for i := range m.Tiles {
						ref := cairn.TileRef{Hunt: m.Hunt, Tick: m.Tick, Tile: uint32(i)}
						if !taken[ref] && rapid.IntRange(0, 2).Draw(t, "win") == 0 {
							taken[ref] = true
							w.tiles = append(w.tiles, i)
						}
					}
					waiting = append(waiting, w)
				}
				if rapid.Bool().Draw(t, "at once") {
					land()
				} else {
					// The generator goes on for less than the grace.
					l.run(time.Duration(rapid.IntRange(100, 9000).Draw(t, "held ms")) * time.Millisecond)
					check()
					land()
				}
			case "land":
				land()
			case "stall":
				land()
				r.advance(time.Duration(rapid.IntRange(100, 20_000).Draw(t, "stall ms")) * time.Millisecond)
			case "takeover":
				l.end()
				l = r.start()
			case "pause":
				r.set(cairn.Paused)
				l.run(time.Second)
				r.set(cairn.Live)
			}
			check()
		}
		land()
		l.run(2 * time.Second)
		r.set(cairn.Paused)
		l.run(40 * time.Second)
		check()
		if got, want := l.left2(h.Reward.Budget), h.Reward.Budget-paid; got != want {
			t.Fatalf("left is %d when all is settled, want budget less paid, %d", got, want)
		}
	})
}

// left2 is left, or the budget if there was no map yet.
func (l *running) left2(budget cairn.Micro) cairn.Micro {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.courses["test"]; c != nil {
		return c.purse.left
	}
	return budget
}
