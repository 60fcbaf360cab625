package audit

import (
	"context"
	"sync"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/wire"
)

// window is how much of the claims' time is read of all shards before any
// goes on, so that each map's tiles are in memory once and not for long.
const window = 10 * time.Second

// foldShards reads all shards in step, a window of time after the other, and
// checks every claim.
func (v *verifier) foldShards(ctx context.Context) error {
	for {
		until, some := cairn.Instant(0), false
		for _, s := range v.shards {
			if err := s.peek(ctx); err != nil {
				return err
			}
			if at, ok := s.nextAt(); ok && (!some || at < until) {
				until, some = at, true
			}
		}
		if !some {
			break
		}
		v.unload(until)
		if err := v.step(ctx, until.Add(window)); err != nil {
			return err
		}
	}
	v.unload(1<<63 - 1)
	now, err := v.settledNow(ctx)
	if err != nil {
		return err
	}
	var unknown int64
	for _, s := range v.shards {
		s.finish(now[s.id])
		unknown += s.unknown
	}
	if unknown > 0 {
		v.found.skip("%d claims against their maps, which the maps log does not hold any more", unknown)
	}
	return nil
}

// step reads every shard up to the first record whose first claim is at until
// or later.
func (v *verifier) step(ctx context.Context, until cairn.Instant) error {
	var (
		wg    sync.WaitGroup
		work  = make(chan *shardState)
		mu    sync.Mutex
		first error
	)
	for range min(v.opts.Parallel, len(v.shards)) {
		wg.Go(func() {
			for s := range work {
				if err := s.readUntil(ctx, until); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
				v.say("claims", false)
			}
		})
	}
	for _, s := range v.shards {
		if at, ok := s.nextAt(); ok && at < until {
			work <- s
		}
	}
	close(work)
	wg.Wait()
	return first
}

// A shardState is the fold of one shard's log.
type shardState struct {
	// Static.
	v    *verifier
	id   int
	sums ledger.ShardSums // what the ledger says
	*reader

	// Owned by whoever reads the shard.
	queue      []batch       // records that were read and not folded
	firstAt    cairn.Instant // of the first claim behind Base; with some
	some       bool
	firstHoles int // holes before it
	lastAt     cairn.Instant

	// Of the claims up to the ledger's offset, as the log has them.
	entries   int64
	rewards   cairn.Micro
	conflicts int64
	behind    int64 // claims after it
	unknown   int64 // claims of maps that are not held any more
}

// A batch is the claims of one record.
type batch struct {
	offset eventlog.Offset
	claims []cairn.Claim // at least one
}

// nextAt returns the at of the claim to be folded next, if there is one.
func (s *shardState) nextAt() (cairn.Instant, bool) {
	if len(s.queue) == 0 {
		return 0, false
	}
	return s.queue[0].claims[0].At, true
}

// peek reads on until there is a claim to be folded, or nothing more to read.
func (s *shardState) peek(ctx context.Context) error {
	for len(s.queue) == 0 && !s.done() {
		recs, err := s.next(ctx)
		if err != nil {
			return err
		}
		s.v.records.Add(int64(len(recs)))
		for i := range recs {
			if recs[i].Kind != eventlog.Data {
				continue
			}
			claims, err := wire.DecodeClaims(nil, recs[i].Body)
			if err != nil {
				s.found.at(s.log, recs[i].Offset, "%v", err)
			}
			if len(claims) > 0 {
				s.queue = append(s.queue, batch{recs[i].Offset, claims})
			}
		}
	}
	return nil
}

// readUntil folds records until one begins at until or later.
func (s *shardState) readUntil(ctx context.Context, until cairn.Instant) error {
	for {
		if err := s.peek(ctx); err != nil {
			return err
		}
		if at, ok := s.nextAt(); !ok || at >= until {
			return nil
		}
		b := s.queue[0]
		s.queue = s.queue[1:]
		for i := range b.claims {
			p := cairn.Place{Shard: s.id, Epoch: b.offset.Epoch, Seq: b.offset.Seq, Index: i}
			if err := s.fold(ctx, p, b.offset, &b.claims[i]); err != nil {
				return err
			}
		}
		s.v.claimed.Add(int64(len(b.claims)))
	}
}

// fold checks one claim.
func (s *shardState) fold(ctx context.Context, p cairn.Place, o eventlog.Offset, c *cairn.Claim) error {
	if c.At < s.lastAt {
		s.found.claim(s.log, p, "claim of tile %s is at %v, before the claim before it, at %v", c.TileRef, micros(c.At), micros(s.lastAt))
	}
	s.lastAt = max(s.lastAt, c.At)
	if !s.some || s.firstHoles != s.holes {
		s.some, s.firstHoles, s.firstAt = true, s.holes, c.At
	}

	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	m := s.v.maps[mapKey{c.Hunt, c.Tick}]
	var first bool
	if m == nil || int64(c.Tile) >= int64(m.tiles) {
		first = s.stray(p, c, m)
	} else {
		if err := s.v.load(ctx, m); err != nil {
			return err
		}
		if m.body != nil {
			s.fits(p, c, m)
		} else {
			s.unknown++
		}
		first = m.claim(c.Tile)
	}
	if !first {
		s.found.claim(s.log, p, "tile %s is claimed here again, by player %s: a tile has one claim", c.TileRef, c.Player)
	} else {
		s.v.claims[c.Hunt] += c.Reward
		for _, b := range s.v.boards[c.Hunt] {
			b.add(p, o, c)
		}
	}
	settled := !s.sums.Offset.Less(o)
	switch {
	case !settled:
		s.behind++
		return nil
	case !first:
		s.conflicts++
		return nil
	}
	s.entries++
	s.rewards += c.Reward
	return s.paid(ctx, p, c, m)
}

// stray notes a claim of a tile that no map has, and reports whether it is the
// tile's first. v.mu is held.
func (s *shardState) stray(p cairn.Place, c *cairn.Claim, m *mapState) bool {
	switch {
	case m != nil:
		s.found.claim(s.log, p, "claim of tile %s: its map has %d tiles", c.TileRef, m.tiles)
	case s.v.mapGone(c):
		s.unknown++
	default:
		s.found.claim(s.log, p, "claim of tile %s: there is no such map", c.TileRef)
	}
	if _, taken := s.v.strays[c.TileRef]; taken {
		return false
	}
	s.v.strays[c.TileRef] = p
	return true
}

// mapGone reports whether a claim's map may have been in the part of the maps
// log that is not there to be read.
func (v *verifier) mapGone(c *cairn.Claim) bool {
	switch {
	case v.mapsLog == nil:
		return false
	case v.mapsLog.damaged:
		return true
	}
	oldest, some := v.oldest[c.Hunt]
	return !v.mapsLog.status.Base.IsZero() && (!some || c.Tick < oldest)
}

// fits notes how a claim does not fit its map. v.mu is held.
func (s *shardState) fits(p cairn.Place, c *cairn.Claim, m *mapState) {
	t := m.body[c.Tile]
	if c.Cell != t.Cell {
		s.found.claim(s.log, p, "claim of tile %s is of cell %s, and the map has %s there", c.TileRef, c.Cell, t.Cell)
	}
	if c.Reward != t.Reward {
		s.found.claim(s.log, p, "claim of tile %s is rewarded with %d, and the map offers %d", c.TileRef, c.Reward, t.Reward)
	}
	if want := cairn.ShardOf(m.slots.Slot(c.Tile), m.shards); want != s.id {
		s.found.claim(s.log, p, "claim of tile %s is in shard %d, and belongs in %d", c.TileRef, s.id, want)
	}
	if c.At < m.opens || c.At >= m.closes {
		s.found.claim(s.log, p, "claim of tile %s is at %v, and its map is open from %v to before %v",
			c.TileRef, micros(c.At), micros(m.opens), micros(m.closes))
	}
}

// micros formats an instant to the microsecond: at the edge of a map a
// millisecond hides what is wrong.
func micros(i cairn.Instant) string { return i.Time().Format("2006-01-02T15:04:05.000000Z07:00") }

// finish checks the shard against the ledger's sums, once all is read. now is
// how far the ledger has settled it by now.
func (s *shardState) finish(now eventlog.Offset) {
	if s.v.view == nil {
		return
	}
	s.settled(now)
	o := s.sums.Offset
	if !s.status.Base.IsZero() || s.damaged && s.at.offset.Less(o) {
		return // the sums are held against the entries alone
	}
	if s.entries != s.sums.Entries || s.rewards != s.sums.Rewards {
		s.found.at(s.log, o, "up to here the log has %d claims worth %d, and the ledger's offset counts %d worth %d",
			s.entries, s.rewards, s.sums.Entries, s.sums.Rewards)
	}
	if s.conflicts != s.sums.Conflicts {
		s.found.at(s.log, o, "up to here the log has %d claims of taken tiles, and the ledger's offset counts %d", s.conflicts, s.sums.Conflicts)
	}
}
