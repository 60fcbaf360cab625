package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/ledger"
	"github.com/veltrix/cairn/internal/wire"
)

// controlFold folds the control log's records.
type controlFold struct {
	v   *verifier
	log eventlog.Name
}

func (f *controlFold) apply(r *eventlog.Record) {
	c, err := wire.DecodeChange(r.Body)
	if err != nil {
		f.v.found.at(f.log, r.Offset, "%v", err)
		return
	}
	if err := f.v.hunts.Check(c); err != nil {
		f.v.found.at(f.log, r.Offset, "change of hunt %q can't follow on what stands before it: %v", c.Hunt, err)
		return
	}
	f.v.hunts.Apply(c)
	if h := f.v.hunts.Get(c.Hunt); h != nil {
		f.v.tilesMost[c.Hunt] = max(f.v.tilesMost[c.Hunt], h.TilesPerMap)
	}
}

type mapKey struct {
	hunt cairn.HuntID
	tick cairn.Tick
}

// foldMaps reads every map of the maps log, checks it, and keeps its header.
func (v *verifier) foldMaps(ctx context.Context, r *reader) error {
	if r == nil {
		v.found.of(string(eventlog.Maps), "there is no maps log")
		return nil
	}
	v.mapsLog = r
	f := mapsFold{v: v, log: r.log, newest: map[cairn.HuntID]*cairn.MapHeader{}}
	return v.each(ctx, "maps", r, f.apply)
}

// mapsFold folds the maps log's records.
type mapsFold struct {
	v      *verifier
	log    eventlog.Name
	holes  int // of the log, met so far
	fold   wire.MapFold
	within bool                              // a map has begun and not ended
	before eventlog.Offset                   // the record before the first of that map
	newest map[cairn.HuntID]*cairn.MapHeader // the map emitted last, by hunt
}

func (f *mapsFold) apply(r *eventlog.Record) {
	if holes := f.v.mapsLog.holes; holes != f.holes { // begin anew behind it
		f.holes, f.within, f.fold = holes, false, wire.MapFold{}
		clear(f.newest)
	}
	if !f.within {
		f.before, f.within = r.Prev, true
	}
	m, err := f.fold.Apply(r.Body)
	if err != nil {
		f.within = false
		if len(f.newest) == 0 && !f.v.mapsLog.status.Base.IsZero() {
			return // the rest of a map whose beginning was trimmed
		}
		f.v.found.at(f.log, r.Offset, "%v", err)
		return
	}
	if m == nil {
		return
	}
	f.within = false
	if f.newest[m.Hunt] == nil {
		f.v.oldest[m.Hunt] = m.Tick
	}
	if m.Prev == (cairn.Digest{}) {
		f.v.began[m.Hunt] = m.Opens
	}
	f.v.report.Maps++
	k := mapKey{m.Hunt, m.Tick}
	if old := f.v.maps[k]; old != nil {
		f.v.found.at(f.log, r.Offset, "map %s/%d was emitted before, at %v: a tick has one map", m.Hunt, m.Tick, old.header)
	} else {
		f.v.maps[k] = &mapState{
			hunt: m.Hunt, tick: m.Tick, opens: m.Opens, closes: m.Closes, shards: m.Shards, tiles: m.MapHeader.Tiles,
			slots: cairn.SlotterOf(m.Hunt, m.Tick), before: f.before, header: r.Offset,
		}
	}
	f.check(r.Offset, m)
	f.newest[m.Hunt] = &m.MapHeader
}

// check notes how a map does not fit its hunt or the map before it.
func (f *mapsFold) check(o eventlog.Offset, m *cairn.Map) {
	bad := func(format string, args ...any) {
		f.v.found.at(f.log, o, "map %s/%d "+format, append([]any{m.Hunt, m.Tick}, args...)...)
	}
	prev := f.newest[m.Hunt]
	switch {
	case prev != nil && m.Prev != prev.Digest:
		bad("names %v as the map before it, want %v, of tick %d", m.Prev, prev.Digest, prev.Tick)
	case prev == nil && m.Prev != (cairn.Digest{}) && f.v.mapsLog.status.Base.IsZero():
		bad("is the hunt's first and names %v as the map before it", m.Prev)
	}
	var offer cairn.Micro
	for i := range m.Tiles {
		offer += m.Tiles[i].Reward
	}
	if offer != m.Offer || m.Offer > m.Budget {
		bad("offers %d, says %d, and has a budget of %d", offer, m.Offer, m.Budget)
	}
	h := f.v.hunts.Get(m.Hunt)
	if h == nil {
		bad("is of a hunt that the control log does not have")
		return
	}
	for i := range m.Tiles {
		if r := m.Tiles[i].Reward; r < 0 || r > h.Reward.Max {
			bad("has a reward of %d on tile %d, and the hunt's are 0 to %d", r, i, h.Reward.Max)
			break
		}
	}
	opens := cairn.Instant(0).Add(time.Duration(h.Tick)) * cairn.Instant(m.Tick)
	if closes := opens.Add(time.Duration(h.Lifetime)); m.Opens != opens || m.Closes != closes {
		bad("is open from %v to %v, want %v to %v", m.Opens, m.Closes, opens, closes)
	}
	if most := f.v.tilesMost[m.Hunt]; m.MapHeader.Tiles > most || m.Budget > h.Reward.Budget {
		bad("has %d tiles and a budget of %d, want at most %d and %d", m.MapHeader.Tiles, m.Budget, most, h.Reward.Budget)
	}
}

// A mapState is what is kept of a map. Guarded by the verifier's mu, but for
// what never changes.
type mapState struct {
	// Static.
	hunt          cairn.HuntID
	tick          cairn.Tick
	opens, closes cairn.Instant
	shards, tiles int
	slots         cairn.Slotter
	before        eventlog.Offset // the record before its first chunk
	header        eventlog.Offset

	claimed []uint64 // a bit a tile; nil until the first

	gone bool // its tiles can't be read any more, since its header was

	// In memory while claims of its time are read.
	body []cairn.Tile
	rows map[uint32]ledger.Row // its entries in the ledger, by tile
}

// claim marks a tile as claimed and reports whether it was not yet.
func (m *mapState) claim(tile uint32) bool {
	if m.claimed == nil {
		m.claimed = make([]uint64, (m.tiles+63)/64)
	}
	w, bit := &m.claimed[tile/64], uint64(1)<<(tile%64)
	first := *w&bit == 0
	*w |= bit
	return first
}

func (m *mapState) isClaimed(tile uint32) bool {
	return int(tile) < m.tiles && m.claimed != nil && m.claimed[tile/64]&(1<<(tile%64)) != 0
}

// load brings a map's tiles, and its entries in the ledger, into memory: no
// tiles if they are gone. v.mu is held.
func (v *verifier) load(ctx context.Context, m *mapState) error {
	if m.body == nil && !m.gone {
		err := v.loadBody(ctx, m)
		switch {
		case errors.Is(err, eventlog.ErrDiverged) && !v.mapsLog.damaged && !v.again(v.mapsLog.log, m.before):
			return &rollback{v.mapsLog.log, m.before, err}
		case saysOfData(err):
			m.gone = true // trimmed, or it came with what is damaged behind it
		case err != nil:
			return err
		}
	}
	if m.rows == nil {
		return v.loadRows(ctx, m)
	}
	return nil
}

// loadBody reads a map's tiles, and those of the maps that came in the same
// answer and will be asked for next. v.mu is held.
func (v *verifier) loadBody(ctx context.Context, m *mapState) error {
	within, cancel := context.WithTimeout(ctx, v.opts.AnswerWithin)
	defer cancel()
	f, err := v.store.Follow(within, v.mapsLog.log, m.before)
	if err != nil {
		return err
	}
	defer f.Close()
	var fold wire.MapFold
	for m.body == nil {
		recs, _, err := f.Next(within)
		if err != nil {
			return err
		}
		for i := range recs {
			if recs[i].Kind != eventlog.Data {
				continue
			}
			// What can't be folded was noted.
			whole, err := fold.Apply(recs[i].Body)
			if whole == nil && m.body == nil && !recs[i].Offset.Less(m.header) {
				return fmt.Errorf("%w: map %s/%d is not at %v any more: %w", eventlog.ErrDiverged, m.hunt, m.tick, m.header, err)
			}
			if whole == nil {
				continue
			}
			x := v.maps[mapKey{whole.Hunt, whole.Tick}]
			if x != nil && x.body == nil && x.header == recs[i].Offset && x.opens < m.opens.Add(window) {
				x.body = whole.Tiles
				v.loaded = append(v.loaded, x)
			}
		}
	}
	return nil
}

// unload drops what is in memory of maps that closed before t.
func (v *verifier) unload(t cairn.Instant) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, m := range v.loaded {
		if m.closes < t {
			m.body, m.rows = nil, nil
			continue
		}
		v.loaded[n] = m
		n++
	}
	clear(v.loaded[n:])
	v.loaded = v.loaded[:n]
}
