package audit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// regionsMax bounds the regional boards of a hunt that are verified: every
// claim is held against each of them.
const regionsMax = 60

// A boardCheck is the newest board of a key in the standings log, and the fold
// of the claims that it says it reflects.
type boardCheck struct {
	*wire.Board
	offset eventlog.Offset
	asOf   map[int]eventlog.Offset
	scores map[cairn.PlayerID]*score
	newest cairn.Instant
}

// score is a player's rank key: more first, and who got there earlier, that is
// whose largest (at, place) is smaller.
type score struct {
	player cairn.PlayerID
	total  cairn.Micro
	claims int
	at     cairn.Instant
	place  cairn.Place
}

func (s *score) compare(t *score) int {
	return cmp.Or(cmp.Compare(t.total, s.total), cmp.Compare(s.at, t.at), comparePlaces(s.place, t.place))
}

func comparePlaces(p, q cairn.Place) int {
	return cmp.Or(cmp.Compare(p.Shard, q.Shard), cmp.Compare(p.Epoch, q.Epoch), cmp.Compare(p.Seq, q.Seq), cmp.Compare(p.Index, q.Index))
}

// foldStandings keeps the newest board of each key, to be held against the
// claims when they are read.
func (v *verifier) foldStandings(ctx context.Context, r *reader) error {
	if r == nil {
		v.found.of(string(eventlog.Standings), "there is no standings log")
		return nil
	}
	newest := map[wire.BoardKey]*boardCheck{}
	err := v.each(ctx, "standings", r, func(rec *eventlog.Record) {
		bs, err := wire.DecodeBoards(rec.Body)
		if err != nil {
			v.found.at(r.log, rec.Offset, "%v", err)
			return
		}
		for _, b := range bs {
			c := &boardCheck{Board: b, offset: rec.Offset, asOf: map[int]eventlog.Offset{}, scores: map[cairn.PlayerID]*score{}}
			for _, o := range b.AsOf {
				c.asOf[o.Shard] = o.Offset
			}
			newest[b.BoardKey] = c
		}
	})
	keys := slices.SortedFunc(maps.Keys(newest), func(a, b wire.BoardKey) int {
		return cmp.Or(cmp.Compare(a.Hunt, b.Hunt), cmp.Compare(a.Region.Precision(), b.Region.Precision()),
			cmp.Compare(a.Region, b.Region), cmp.Compare(a.Window, b.Window), cmp.Compare(a.Hour, b.Hour))
	})
	regions, over := map[cairn.HuntID]int{}, 0
	for _, k := range keys {
		if k.Region.Precision() > 0 {
			if regions[k.Hunt]++; regions[k.Hunt] > regionsMax {
				over++
				continue
			}
		}
		v.boards[k.Hunt] = append(v.boards[k.Hunt], newest[k])
	}
	if over > 0 {
		v.found.skip("standings: %d regional boards, over %d of a hunt", over, regionsMax)
	}
	return err
}

// add folds a claim that holds its tile, if the board reflects it.
func (b *boardCheck) add(p cairn.Place, o eventlog.Offset, c *cairn.Claim) {
	if b.asOf[p.Shard].Less(o) || !b.Region.Contains(c.Cell) {
		return
	}
	hour := int64(time.Hour / time.Microsecond)
	if b.Window == wire.WindowHour && int64(c.At)/hour != b.Hour {
		return
	}
	s := b.scores[c.Player]
	if s == nil {
		s = &score{player: c.Player, at: c.At, place: p}
		b.scores[c.Player] = s
	}
	s.total += c.Reward
	s.claims++
	if cmp.Or(cmp.Compare(s.at, c.At), comparePlaces(s.place, p)) < 0 {
		s.at, s.place = c.At, p
	}
	b.newest = max(b.newest, c.At)
}

// standings holds each board against its fold, once all claims are read.
func (v *verifier) standings() {
	shards := map[int]*shardState{}
	for _, s := range v.shards {
		shards[s.id] = s
	}
	var skipped int
	var first string
	for _, hunt := range slices.Sorted(maps.Keys(v.boards)) {
		for _, b := range v.boards[hunt] {
			if why := b.unreadable(shards, b.since(v.began)); why != "" {
				if skipped++; skipped == 1 {
					first = fmt.Sprintf("%v: %s, since %s", b.offset, b.name(), why)
				}
				continue
			}
			if wrong := b.wrong(); wrong != "" {
				v.found.at(eventlog.Standings, b.offset, "%s is not the fold of the claims up to its as_of: %s", b.name(), wrong)
			}
		}
	}
	switch {
	case skipped == 1:
		v.found.skip("standings %s", first)
	case skipped > 1:
		v.found.skip("standings: %d boards, the first of them %s", skipped, first)
	}
}

// since returns the instant before which no claim counts on b: the beginning
// of its hour, or of the first map of its hunt. Zero if that is not known.
func (b *boardCheck) since(began map[cairn.HuntID]cairn.Instant) cairn.Instant {
	if b.Window == wire.WindowHour {
		return cairn.Instant(b.Hour * int64(time.Hour/time.Microsecond))
	}
	return began[b.Hunt]
}

func (b *boardCheck) name() string {
	name := fmt.Sprintf("board %s of %s", b.Window, b.Hunt)
	if b.Window == wire.WindowHour {
		name = fmt.Sprintf("board hour %v of %s", cairn.Instant(b.Hour*int64(time.Hour/time.Microsecond)), b.Hunt)
	}
	if b.Region.Precision() > 0 {
		name += " in " + b.Region.String()
	}
	return name
}

// unreadable says why the claims that b reflects, all at since or later, were
// not all read.
func (b *boardCheck) unreadable(shards map[int]*shardState, since cairn.Instant) string {
	for _, o := range b.AsOf {
		switch s := shards[o.Shard]; {
		case s == nil:
			return fmt.Sprintf("it reflects shard %d, which has no log", o.Shard)
		// In a shard at never decreases: what is trimmed is not later than
		// what is left.
		case !s.status.Base.IsZero() && !(s.some && s.firstHoles == s.holes && s.firstAt < since):
			return fmt.Sprintf("records of %s were trimmed", s.log)
		case s.at.offset.Less(o.Offset):
			return fmt.Sprintf("it reflects %s up to %v, and the log was read up to %v", s.log, o.Offset, s.at.offset)
		}
	}
	return ""
}

// wrong says how b differs from its fold. Names are not looked at.
func (b *boardCheck) wrong() string {
	if b.Players != len(b.scores) || b.Newest != b.newest {
		return fmt.Sprintf("it has %d players and the newest claim at %v, want %d and %v", b.Players, micros(b.Newest), len(b.scores), micros(b.newest))
	}
	all := slices.SortedFunc(maps.Values(b.scores), (*score).compare)
	if len(b.Rows) == 0 && len(all) > 0 {
		return fmt.Sprintf("it has no rows of %d players", len(all))
	}
	for i, got := range b.Rows {
		if i >= len(all) {
			return fmt.Sprintf("it has %d rows of %d players", len(b.Rows), len(all))
		}
		want := all[i]
		if got.Player != want.player || got.Score != want.total || got.Claims != want.claims {
			return fmt.Sprintf("rank %d is %s with %d for %d claims, want %s with %d for %d",
				i+1, got.Player, got.Score, got.Claims, want.player, want.total, want.claims)
		}
	}
	return ""
}
