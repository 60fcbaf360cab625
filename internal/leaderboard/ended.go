package leaderboard

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// What stays of hunts that ended. Time is that of claims: where none come,
// nothing grows.
const (
	endedFor = 10 * minute // regional boards and hours stay so long; then the hunt's own board alone
	endedMax = 32          // of those, so many that ended last stay; of others nothing
)

const minute = cairn.Instant(time.Minute / time.Microsecond)

func minuteOf(at cairn.Instant) int64 { return int64(at / minute) }

// ended notes that a hunt ended.
func (f *fold) ended(id cairn.HuntID, at cairn.Instant) {
	f.ends[id] = at
	f.dropEnded()
}

// dropEnded drops what stays not of hunts that ended. It is a function of the
// minute of the newest claim, not of when it is called.
func (f *fold) dropEnded() {
	now := cairn.Instant(minuteOf(f.newest)) * minute
	var over []cairn.HuntID
	for id, at := range f.ends {
		if f.hunts[id] == nil || at+endedFor > now {
			continue
		}
		over = append(over, id)
		if h := f.hunts[id]; !h.shut {
			h.shut = true
			for _, s := range h.hours {
				h.drop(s)
			}
			if h.all != nil {
				for i := range h.all.levels {
					h.all.levels[i] = level{over: true}
				}
			}
		}
	}
	if len(over) <= endedMax {
		return
	}
	slices.SortFunc(over, func(a, b cairn.HuntID) int {
		return cmp.Or(-cmp.Compare(f.ends[a], f.ends[b]), cmp.Compare(a, b))
	})
	for _, id := range over[endedMax:] {
		if h := f.hunts[id]; h.all != nil {
			h.all.gone = true
		}
		delete(f.hunts, id)
		f.gone[id] = true
	}
}

// followControl tells the fold of hunts that end, until ctx ends or the control
// log fails.
func (p *Projection) followControl(ctx context.Context) error {
	st, err := p.store.Status(ctx, eventlog.Control)
	if err != nil {
		return fmt.Errorf("leaderboard: %w", err)
	}
	f, err := p.store.Follow(ctx, eventlog.Control, st.Base)
	if err != nil {
		return fmt.Errorf("leaderboard: %w", err)
	}
	defer f.Close()
	var hunts cairn.Hunts
	for {
		recs, _, err := f.Next(ctx)
		if err != nil {
			return fmt.Errorf("leaderboard: following the control log: %w", err)
		}
		for i := range recs {
			if recs[i].Kind != eventlog.Data {
				continue
			}
			c, err := wire.DecodeChange(recs[i].Body)
			if err != nil {
				return fmt.Errorf("leaderboard: control log at %v: %w", recs[i].Offset, err)
			}
			hunts.Apply(c)
			if h := hunts.Get(c.Hunt); c.State == cairn.Ended && h != nil && h.State == cairn.Ended {
				p.mu.Lock()
				p.fold.ended(c.Hunt, h.Changed)
				p.mu.Unlock()
			}
		}
	}
}
