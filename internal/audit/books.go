package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/ledger"
)

const ledgerName = "ledger"

// open begins the view of the ledger.
func (v *verifier) open(ctx context.Context, led *ledger.Ledger) error {
	v.led, v.report.Ledger = led, new(LedgerReport)
	view, err := led.View(ctx)
	if err == nil {
		v.view = view
		v.settled, err = view.Shards(ctx)
	}
	if isData(ctx, err) {
		v.broken(err)
		return nil
	}
	return err
}

// broken notes that the ledger can't be read, and reads no more of it.
func (v *verifier) broken(err error) {
	v.ledErr = err
	v.found.of(ledgerName, "%v", err)
	v.found.skip("the ledger, since it can't be read")
}

// loadRows brings a map's entries into memory. v.mu is held.
func (v *verifier) loadRows(ctx context.Context, m *mapState) error {
	if v.view == nil || v.ledErr != nil {
		return nil
	}
	m.rows = map[uint32]ledger.Row{}
	v.loaded = append(v.loaded, m)
	err := v.view.Map(ctx, m.hunt, m.tick, func(r *ledger.Row) error {
		m.rows[r.Tile] = *r
		return nil
	})
	if isData(ctx, err) {
		v.broken(err)
		return nil
	}
	return err
}

// paid checks that a settled claim has its entry, and that the entry is the
// claim. m is nil if its map is not held. v.mu is held.
func (s *shardState) paid(ctx context.Context, p cairn.Place, c *cairn.Claim, m *mapState) error {
	if s.v.view == nil || s.v.ledErr != nil {
		return nil
	}
	var (
		row   ledger.Row
		found bool
	)
	if m != nil && m.rows != nil {
		row, found = m.rows[c.Tile]
	} else {
		var err error
		row, found, err = s.v.row(ctx, c.TileRef)
		if err != nil {
			return err
		}
	}
	if s.v.ledErr != nil {
		return nil
	}
	if !found {
		s.found.claim(s.log, p, "claim of tile %s by player %s, worth %d, has no entry in the ledger", c.TileRef, c.Player, c.Reward)
		return nil
	}
	want := ledger.Row{
		TileRef: c.TileRef, Geohash: c.Cell.String(), Reward: c.Reward, Player: c.Player, Name: c.Name, At: c.At,
		Place: p, State: row.State,
	}
	if row != want {
		s.found.claim(s.log, p, "claim of tile %s and its entry in the ledger differ: %s", c.TileRef, difference(&row, &want))
	}
	return nil
}

// row reads one entry. v.mu is held.
func (v *verifier) row(ctx context.Context, t cairn.TileRef) (row ledger.Row, found bool, err error) {
	err = v.view.Map(ctx, t.Hunt, t.Tick, func(r *ledger.Row) error {
		if r.Tile == t.Tile {
			row, found = *r, true
		}
		return nil
	})
	if isData(ctx, err) {
		v.broken(err)
		return row, false, nil
	}
	return row, found, err
}

// difference says in which columns an entry is not what the claim says.
func difference(got, want *ledger.Row) string {
	var b []string
	differ := func(column string, got, want any) {
		if got != want {
			b = append(b, fmt.Sprintf("%s is %v, want %v", column, got, want))
		}
	}
	differ("player", got.Player, want.Player)
	differ("name", got.Name, want.Name)
	differ("geohash", got.Geohash, want.Geohash)
	differ("reward", got.Reward, want.Reward)
	differ("at", micros(got.At), micros(want.At))
	differ("offset", got.Place.String(), want.Place.String())
	return strings.Join(b, "; ")
}

// account is the sums over some entries.
type account struct {
	entries int64
	rewards cairn.Micro
}

func (a *account) add(r *ledger.Row) {
	a.entries++
	a.rewards += r.Reward
}

// foldLedger reads every entry and balance, and checks that each entry pays a
// claim and that all sums agree.
func (v *verifier) foldLedger(ctx context.Context) error {
	if v.view == nil || v.ledErr != nil {
		return nil
	}
	err := v.foldEntries(ctx)
	if isData(ctx, err) {
		v.broken(err)
		return nil
	}
	return err
}

func (v *verifier) foldEntries(ctx context.Context) error {
	shards := map[int]*shardState{}
	for _, s := range v.shards {
		shards[s.id] = s
		v.report.Ledger.Behind += s.behind
	}
	byShard, byPlayer := map[int]account{}, map[cairn.PlayerID]account{}
	ahead, homeless := map[int]*someRows{}, map[int]*someRows{}
	var unread int64
	err := v.view.Rows(ctx, func(r *ledger.Row) error {
		v.entries.Add(1)
		v.say("ledger", false)
		a, p := byShard[r.Place.Shard], byPlayer[r.Player]
		a.add(r)
		p.add(r)
		byShard[r.Place.Shard], byPlayer[r.Player] = a, p
		v.report.Ledger.Entries++
		v.report.Ledger.Rewards += r.Reward
		switch s := shards[r.Place.Shard]; {
		case s != nil && s.sums.Offset.Less(offsetOf(r.Place)):
			addRow(ahead, r.Place)
		case s == nil:
			addRow(homeless, r.Place)
		case !v.earned(r, s):
			unread++
			v.claims[r.Hunt] += r.Reward
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	if unread > 0 {
		v.found.skip("%d ledger entries against their claims, which the logs do not hold any more", unread)
	}
	for id, a := range ahead {
		v.found.claim(eventlog.Shard(id), a.first, "from here on %d ledger entries stand behind what the ledger says it has settled, %v", a.n, v.settled[id].Offset)
	}
	for id, a := range homeless {
		v.found.claim(eventlog.Shard(id), a.first, "from here on %d ledger entries name a shard that has no log", a.n)
	}
	v.shardSums(byShard)
	if err := v.balances(ctx, byPlayer); err != nil {
		return err
	}
	problems, err := v.view.Integrity(ctx)
	for _, p := range problems {
		v.found.of(ledgerName, "%s", p)
	}
	return err
}

func offsetOf(p cairn.Place) eventlog.Offset { return eventlog.Offset{Epoch: p.Epoch, Seq: p.Seq} }

// someRows are entries of a shard that are wrong in the same way: one
// violation, however many there are.
type someRows struct {
	n     int
	first cairn.Place
}

func addRow(rows map[int]*someRows, p cairn.Place) {
	a := rows[p.Shard]
	if a == nil {
		a = &someRows{first: p}
		rows[p.Shard] = a
	}
	a.n++
	if comparePlaces(p, a.first) < 0 {
		a.first = p
	}
}

// earned checks that an entry pays a claim, and reports whether that could be
// told. s is the shard that it names.
func (v *verifier) earned(r *ledger.Row, s *shardState) bool {
	log := eventlog.Shard(r.Place.Shard)
	if r.State != ledger.Settled && r.State != ledger.Paid {
		v.found.claim(log, r.Place, "ledger entry of tile %s is in state %q", r.TileRef, r.State)
	}
	switch {
	case v.isClaimed(r.TileRef):
		return true // and was compared with its claim
	case !s.covers(offsetOf(r.Place)):
		return false
	}
	v.found.claim(log, r.Place, "ledger entry of tile %s pays player %s %d, and the log has no such claim", r.TileRef, r.Player, r.Reward)
	return true
}

func (v *verifier) isClaimed(t cairn.TileRef) bool {
	if m := v.maps[mapKey{t.Hunt, t.Tick}]; m != nil && m.isClaimed(t.Tile) {
		return true
	}
	_, ok := v.strays[t]
	return ok
}

// shardSums checks the sums beside each offset against the entries.
func (v *verifier) shardSums(byShard map[int]account) {
	ids := map[int]bool{}
	for id := range v.settled {
		ids[id] = true
		v.report.Ledger.Settled++
	}
	for id := range byShard {
		ids[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		s, a := v.settled[id], byShard[id]
		if s.Entries != a.entries || s.Rewards != a.rewards {
			v.found.at(eventlog.Shard(id), s.Offset, "the ledger has %d entries worth %d of this shard, and its offset counts %d worth %d",
				a.entries, a.rewards, s.Entries, s.Rewards)
		}
	}
}

// balances checks each player's balance against their entries.
func (v *verifier) balances(ctx context.Context, byPlayer map[cairn.PlayerID]account) error {
	err := v.view.Balances(ctx, func(player cairn.PlayerID, entries int64, total cairn.Micro) error {
		v.report.Ledger.Players++
		if a := byPlayer[player]; a.entries != entries || a.rewards != total {
			v.found.of(ledgerName, "balance of player %s is %d over %d entries, and the entries are %d worth %d",
				player, total, entries, a.entries, a.rewards)
		}
		delete(byPlayer, player)
		return nil
	})
	if err != nil {
		return err
	}
	for _, player := range slices.Sorted(maps.Keys(byPlayer)) {
		v.found.of(ledgerName, "player %s has no balance, and %d entries worth %d", player, byPlayer[player].entries, byPlayer[player].rewards)
	}
	return nil
}
