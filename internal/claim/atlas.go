package claim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

const (
	// early is how long before it opens a map may be asked for: what lies
	// further ahead is known not to be there.
	early = 5 * time.Second

	// late is how long after its close a map that was never seen is known
	// never to have been: the generator skips what has closed.
	late = 5 * time.Second
)

type mapKey struct {
	hunt cairn.HuntID
	tick cairn.Tick
}

// An atlas is what the service knows of hunts and maps. It never changes: each
// record folded makes a new one.
type atlas struct {
	hunts   cairn.Hunts
	layouts map[mapKey]*Layout // closed less than Memory ago
	maps    eventlog.Offset    // of the newest record of the maps log that is in it
	next    chan struct{}      // closed when a newer atlas is there
}

func newAtlas() *atlas {
	return &atlas{layouts: map[mapKey]*Layout{}, next: make(chan struct{})}
}

// find returns the layout of a tile's map, and whether its hunt takes no
// claims now. If the map is known not to be there it returns nil and fills v;
// if it should be there but was not seen by the given time, ErrUnavailable.
func (s *Service) find(ctx context.Context, by time.Time, ref *cairn.TileRef, v *cairn.Verdict) (lay *Layout, halted bool, err error) {
	if err := s.awaitRead(ctx, by); err != nil {
		return nil, false, err
	}
	at := s.atlas.Load()
	if lay = at.layouts[mapKey{ref.Hunt, ref.Tick}]; lay == nil {
		if at, lay, err = s.await(ctx, by, ref, v); lay == nil {
			return nil, false, err
		}
	}
	return lay, at.halts(ref.Hunt), nil
}

// halts reports whether a hunt takes no claims now.
func (at *atlas) halts(hunt cairn.HuntID) bool {
	h := at.hunts.Get(hunt)
	return h == nil || h.State != cairn.Live
}

// caughtUp reports whether Run has folded what the control and maps logs held
// when it began.
func (s *Service) caughtUp() bool {
	select {
	case <-s.read:
		return true
	default:
		return false
	}
}

// awaitRead waits until Run has folded what the control and maps logs held
// when it began: before, what is not in the atlas may well be there.
func (s *Service) awaitRead(ctx context.Context, by time.Time) error {
	select {
	case <-s.read:
		return nil
	default:
	}
	timeout := time.NewTimer(time.Until(by))
	defer timeout.Stop()
	select {
	case <-s.read:
		return nil
	case <-timeout.C:
	case <-ctx.Done():
	}
	return ErrUnavailable
}

// await waits for a map that is not in the atlas, if it may still come.
func (s *Service) await(ctx context.Context, by time.Time, ref *cairn.TileRef, v *cairn.Verdict) (*atlas, *Layout, error) {
	timeout := time.NewTimer(time.Until(by))
	defer timeout.Stop()
	for {
		at := s.atlas.Load()
		if lay := at.layouts[mapKey{ref.Hunt, ref.Tick}]; lay != nil {
			return at, lay, nil
		}
		if h := at.hunts.Get(ref.Hunt); h != nil && absent(h, ref.Tick, s.now(), v) {
			return at, nil, nil
		}
		select {
		case <-at.next:
		case <-timeout.C:
			if at.hunts.Get(ref.Hunt) == nil {
				*v = cairn.Verdict{Outcome: cairn.UnknownTile}
				return at, nil, nil
			}
			return at, nil, ErrUnavailable
		case <-ctx.Done():
			return at, nil, ErrUnavailable
		}
	}
}

// absent reports whether a map that was not seen is known not to be open, and
// fills v with why.
func absent(h *cairn.HuntStatus, tick cairn.Tick, now cairn.Instant, v *cairn.Verdict) bool {
	period := cairn.Instant(time.Duration(h.Tick) / time.Microsecond)
	if tick < 0 || int64(tick) > int64(now.Add(early)/period) {
		*v = cairn.Verdict{Outcome: cairn.UnknownTile}
		return true
	}
	opens := cairn.Instant(tick) * period
	closes := opens.Add(time.Duration(h.Lifetime))
	switch {
	case closes.Add(Memory-late) < now || h.State == cairn.Ended:
		// Forgotten, or nothing opens any more: whether it ever was can't be said here.
		*v = cairn.Verdict{Outcome: cairn.Closed, Opens: opens, Closes: closes}
	case closes.Add(late) < now:
		*v = cairn.Verdict{Outcome: cairn.UnknownTile}
	default:
		return false
	}
	return true
}

// awaitMaps waits until the atlas has all that is durable in the maps log now.
func (s *Service) awaitMaps(ctx context.Context) error {
	head, err := s.store.Status(ctx, eventlog.Maps)
	if err != nil {
		return err
	}
	for {
		at := s.atlas.Load()
		if !at.maps.Less(head.Durable) {
			return nil
		}
		select {
		case <-at.next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow folds a log from the oldest record that matters until ctx ends, and
// sends on caught once it has folded what was there when it began.
//
// What claims are judged by must stay: only what is known to be durable is
// folded. Records that a failover took back were not, so the log is followed
// anew from what was folded.
func (s *Service) follow(ctx context.Context, name eventlog.Name, fold func(*atlas, *eventlog.Record) error, caught chan<- struct{}) error {
	head, err := s.store.Status(ctx, name)
	if err != nil {
		return err
	}
	f, err := followFrom(ctx, s.store, name, eventlog.Offset{})
	folded, told := eventlog.Offset{}, false
	for err == nil {
		err = s.tail(ctx, f, func(recs []eventlog.Record) error {
			if len(recs) > 0 {
				if err := s.foldAll(recs, fold); err != nil {
					return err
				}
				folded = recs[len(recs)-1].Offset
			}
			if !told && !folded.Less(head.Durable) {
				told = true
				caught <- struct{}{}
			}
			return nil
		})
		if errors.Is(err, eventlog.ErrDiverged) && !folded.IsZero() {
			s.opts.Log.Warn("claim: a log took back what was not durable", "log", string(name), "folded", folded.String(), "err", err)
			f, err = s.store.Follow(ctx, name, folded)
		}
	}
	return fmt.Errorf("claim: %s: %w", name, err)
}

// tail hands the records of f on, once each is durable, until one of the two
// fails. It calls take, if only with nothing, whenever the durable mark may
// have moved. It closes f.
func (s *Service) tail(ctx context.Context, f eventlog.Follower, take func([]eventlog.Record) error) error {
	defer f.Close()
	var held []eventlog.Record
	for {
		recs, durable, err := f.Next(ctx)
		if err != nil {
			return err
		}
		if len(held) > 0 {
			recs, held = append(held, recs...), nil
		}
		n := 0
		for n < len(recs) && !durable.Less(recs[n].Offset) {
			n++
		}
		if err := take(recs[:n]); err != nil {
			return err
		}
		for _, r := range recs[n:] {
			r.Body = bytes.Clone(r.Body) // it was borrowed
			held = append(held, r)
		}
	}
}

// foldAll makes a new atlas of the present one and recs.
func (s *Service) foldAll(recs []eventlog.Record, fold func(*atlas, *eventlog.Record) error) error {
	s.foldMu.Lock()
	defer s.foldMu.Unlock()
	old := s.atlas.Load()
	at := &atlas{hunts: old.hunts.Clone(), layouts: maps.Clone(old.layouts), maps: old.maps, next: make(chan struct{})}
	for i := range recs {
		if err := fold(at, &recs[i]); err != nil {
			return fmt.Errorf("record %v: %w", recs[i].Offset, err)
		}
	}
	forgotten := s.now().Add(-Memory)
	maps.DeleteFunc(at.layouts, func(_ mapKey, l *Layout) bool { return l.Map.Closes < forgotten })
	s.atlas.Store(at)
	close(old.next)
	return nil
}

func (s *Service) foldControl(at *atlas, r *eventlog.Record) error {
	if r.Kind != eventlog.Data {
		return nil
	}
	c, err := wire.DecodeChange(r.Body)
	if err != nil {
		return err
	}
	at.hunts.Apply(c)
	return nil
}

// foldMaps returns the fold of the maps log. A map that can't be laid out or
// decoded is an error: claims on it could not be judged.
func (s *Service) foldMaps() func(*atlas, *eventlog.Record) error {
	var fold wire.MapFold
	first := true
	return func(at *atlas, r *eventlog.Record) error {
		if first {
			first, fold.Trimmed = false, r.Kind != eventlog.Genesis
		}
		at.maps = r.Offset
		if r.Kind != eventlog.Data {
			return nil
		}
		m, err := fold.Apply(r.Body)
		if m == nil || err != nil {
			return err
		}
		key := mapKey{m.Hunt, m.Tick}
		if at.layouts[key] != nil {
			return fmt.Errorf("a second map of %s/%d", m.Hunt, m.Tick)
		}
		if m.Closes < s.now().Add(-Memory) {
			return nil
		}
		at.layouts[key], err = NewLayout(m)
		return err
	}
}
