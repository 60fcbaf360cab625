package mapgen

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// A life is one writer's: from its fence to the next generator's.
type life struct {
	// Static after open.
	g    *Generator
	wake chan struct{} // holds one: the control log changed; never closed

	// Each owned by its goroutine after open.
	followers []eventlog.Follower // of the shards

	// Owned by step.
	w    eventlog.Writer
	last eventlog.Offset // of the newest record appended, at first the fence
	body []byte

	mu      sync.Mutex // guards what follows
	hunts   cairn.Hunts
	control eventlog.Offset                // of the newest record folded
	since   map[cairn.HuntID]cairn.Instant // when a hunt became live, as long as it is
	courses map[cairn.HuntID]*course
	shards  []shardFold
}

// A course is where the generator stands with one hunt.
type course struct {
	// Owned by step.
	field  *Field // of as many tiles a map as stand beside it; nil before the first map
	tiles  int
	anchor eventlog.Offset // the oldest record that a takeover needs for it: see anchorAt
	noted  cairn.Instant   // when its course was last written; 0 is never
	dirty  bool            // a map was emitted since

	// Guarded by life.mu; only step writes tick and digest.
	tick   cairn.Tick // of the newest map; noTick at first
	digest cairn.Digest
	purse  purse

	// Static after open.
	replay []wire.CourseShard // what the purse had of the shards' logs when it was restored
}

func newCourse(left cairn.Micro, anchor eventlog.Offset) *course {
	return &course{tick: noTick, anchor: anchor, purse: purse{left: left, settled: noTick}}
}

// anchorAt notes that the course was written at that offset: a takeover needs
// this record, and the headers of the maps that were not settled then. What is
// settled later does not count: the record does not know of it.
func (c *course) anchorAt(at eventlog.Offset) {
	c.anchor = at
	if len(c.purse.open) > 0 && c.purse.open[0].header.Less(at) {
		c.anchor = c.purse.open[0].header
	}
}

// open fences the maps log, and folds the control log up to its head and the
// maps log from where the last writer's from says.
func (g *Generator) open(ctx context.Context) (*life, error) {
	l := &life{g: g, wake: make(chan struct{}, 1), since: map[cairn.HuntID]cairn.Instant{}, courses: map[cairn.HuntID]*course{}}
	n, err := g.shardCount(ctx)
	if err != nil {
		return nil, err
	}
	if l.w, err = g.store.Open(ctx, eventlog.Maps); err != nil {
		return nil, fmt.Errorf("mapgen: %w", err)
	}
	l.last = l.w.Fence()
	err = l.foldMaps(ctx)
	if err == nil {
		err = l.foldControl(ctx)
	}
	if err == nil {
		err = l.placeShards(ctx, n)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// close releases the writer and the followers.
func (l *life) close() {
	for _, f := range l.followers {
		f.Close()
	}
	l.w.Close()
}

// shardCount returns how many shards' logs there are to follow.
func (g *Generator) shardCount(ctx context.Context) (int, error) {
	if g.opts.Shards > 0 {
		return g.opts.Shards, nil
	}
	logs, err := g.store.Logs(ctx)
	if err != nil {
		return 0, fmt.Errorf("mapgen: %w", err)
	}
	n := 0
	for slices.Contains(logs, eventlog.Shard(n)) {
		n++
	}
	return n, nil
}

// foldMaps reads the maps log up to the own fence: what was emitted, and the
// courses that say what led there.
func (l *life) foldMaps(ctx context.Context) error {
	f, _, err := l.g.followFrom(ctx, eventlog.Maps, before(l.w.From()))
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		recs, _, err := f.Next(ctx)
		if err != nil {
			return fmt.Errorf("mapgen: %w", err)
		}
		for i := range recs {
			if err := l.foldMap(&recs[i]); err != nil {
				return err
			}
			if !recs[i].Offset.Less(l.w.Fence()) {
				return nil
			}
		}
	}
}

// foldMap folds one record of the maps log. Chunks say nothing: a map whose
// header a dead writer did not write does not exist.
func (l *life) foldMap(r *eventlog.Record) error {
	if r.Kind != eventlog.Data {
		return nil
	}
	h, note, err := wire.DecodeMapsRecord(r.Body)
	switch {
	case err != nil:
		return fmt.Errorf("mapgen: maps record %v: %w", r.Offset, err)
	case h != nil:
		c := l.courses[h.Hunt]
		if c == nil {
			c = newCourse(h.Budget, r.Offset)
			l.courses[h.Hunt] = c
		}
		if h.Tick > c.tick {
			c.tick, c.digest = h.Tick, h.Digest
			c.purse.emit(h, r.Offset)
		}
	case note != nil:
		c := l.courses[note.Hunt]
		if c == nil {
			c = newCourse(0, r.Offset)
			l.courses[note.Hunt] = c
		}
		c.tick, c.digest, c.replay = note.Tick, note.Digest, note.Shards
		c.purse.restore(note.Left, note.Settled)
		c.anchorAt(r.Offset)
	}
	return nil
}

// foldControl folds the control log up to its head.
func (l *life) foldControl(ctx context.Context) error {
	st, err := l.g.store.Status(ctx, eventlog.Control)
	if err != nil {
		return fmt.Errorf("mapgen: %w", err)
	}
	f, err := l.g.store.Follow(ctx, eventlog.Control, eventlog.Offset{})
	if err != nil {
		return fmt.Errorf("mapgen: %w", err)
	}
	defer f.Close()
	for l.control.Less(st.Last) {
		recs, _, err := f.Next(ctx)
		if err != nil {
			return fmt.Errorf("mapgen: %w", err)
		}
		if err := l.applyControl(recs); err != nil {
			return err
		}
	}
	return nil
}

// applyControl folds records of the control log.
func (l *life) applyControl(recs []eventlog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range recs {
		r := &recs[i]
		l.control = r.Offset
		if r.Kind != eventlog.Data {
			continue
		}
		c, err := wire.DecodeChange(r.Body)
		if err != nil {
			return fmt.Errorf("mapgen: control record %v: %w", r.Offset, err)
		}
		l.hunts.Apply(c)
		h := l.hunts.Get(c.Hunt)
		if h == nil {
			continue
		}
		if _, was := l.since[c.Hunt]; !was && h.State == cairn.Live {
			l.since[c.Hunt] = c.When
		}
		if h.State != cairn.Live {
			delete(l.since, c.Hunt)
		}
		if h.State == cairn.Ended {
			delete(l.courses, c.Hunt) // no map will need its money or its chain
			l.g.metrics.forget(c.Hunt)
		}
	}
	return nil
}

// placeShards finds where to begin with each shard's log: so that all claims
// of maps that are not settled are read, and if there are none, at the head.
func (l *life) placeShards(ctx context.Context, n int) error {
	for i := range n {
		st, err := l.g.store.Status(ctx, eventlog.Shard(i))
		if err != nil {
			return fmt.Errorf("mapgen: %w", err)
		}
		from := st.Last
		for _, c := range l.courses {
			switch {
			case i < len(c.replay):
				if c.replay[i].From.Less(from) {
					from = c.replay[i].From
				}
			case len(c.purse.open) > 0:
				from = eventlog.Offset{}
			}
		}
		f, lost, err := l.g.followFrom(ctx, eventlog.Shard(i), from)
		if err != nil {
			return err
		}
		if lost {
			l.loseClaims()
		}
		l.followers = append(l.followers, f)
		l.shards = append(l.shards, newShardFold(from))
	}
	return nil
}

// follow starts the followers of the control log and the shards' logs.
func (l *life) follow(ctx context.Context, group *errgroup.Group) {
	control := l.control
	group.Go(func() error { return l.followControl(ctx, control) })
	for i := range l.shards {
		group.Go(func() error { return l.followShard(ctx, i) })
	}
}

func (l *life) followControl(ctx context.Context, from eventlog.Offset) error {
	f, err := l.g.store.Follow(ctx, eventlog.Control, from)
	if err != nil {
		return fmt.Errorf("mapgen: %w", err)
	}
	defer f.Close()
	for {
		recs, _, err := f.Next(ctx)
		if err != nil {
			return fmt.Errorf("mapgen: %w", err)
		}
		if err := l.applyControl(recs); err != nil {
			return err
		}
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

func (l *life) followShard(ctx context.Context, shard int) error {
	var claims []cairn.Claim
	for {
		recs, _, err := l.followers[shard].Next(ctx)
		if err != nil {
			return fmt.Errorf("mapgen: %w", err)
		}
		if claims, err = l.applyShard(shard, recs, claims); err != nil {
			return err
		}
	}
}

// loseClaims is for a takeover so late that claims of maps not settled are
// trimmed: all of what those maps offered counts as claimed.
func (l *life) loseClaims() {
	for _, c := range l.courses {
		for i := range c.purse.open {
			c.purse.open[i].lose()
		}
	}
}

// applyShard folds records of a shard's log. It returns claims, to be used
// again.
func (l *life) applyShard(shard int, recs []eventlog.Record, claims []cairn.Claim) ([]cairn.Claim, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range recs {
		r := &recs[i]
		claims = claims[:0]
		if r.Kind == eventlog.Data {
			var err error
			if claims, err = wire.DecodeClaims(claims, r.Body); err != nil {
				return claims, fmt.Errorf("mapgen: %s record %v: %w", eventlog.Shard(shard), r.Offset, err)
			}
		}
		at := cairn.Instant(0)
		for j := range claims {
			l.applyClaim(shard, r.Offset, &claims[j])
			at = max(at, claims[j].At)
		}
		l.shards[shard].advance(r.Offset, at)
	}
	return claims, nil
}

func (l *life) applyClaim(shard int, at eventlog.Offset, claim *cairn.Claim) {
	c := l.courses[claim.Hunt]
	if c == nil || !c.purse.claim(claim) {
		return
	}
	if shard < len(c.replay) && !c.replay[shard].Read.Less(at) {
		return // the purse had it when it was restored
	}
	c.purse.late(claim)
	l.g.metrics.late.Inc()
	l.g.opts.Log.Error("mapgen: a claim came after its map was settled", "claim", claim.TileRef.String(), "shard", shard, "offset", at.String(), "reward", int64(claim.Reward))
}
