package leaderboard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// How often, and how far apart, a peer is asked for a checkpoint.
const (
	fetchTries = 10
	fetchPause = 500 * time.Millisecond
)

// unpublishedMax bounds how many claims wait for their lag to be observed.
const unpublishedMax = 1 << 16

// Run folds the shard logs, publishes and writes checkpoints until ctx ends,
// which is no error. It may be called once. Other errors are final and an
// operator must look: a log that is missing, damaged, or trimmed past every
// checkpoint. A log that was rolled back is none: standings are folded anew,
// from a checkpoint that still fits.
func (p *Projection) Run(ctx context.Context) error {
	skip := 0 // starts that did not lead to the heads of the logs
	for {
		err := p.session(ctx, skip)
		if ctx.Err() != nil {
			p.end(nil)
			return nil
		}
		if !errors.Is(err, eventlog.ErrDiverged) {
			p.end(err)
			return err
		}
		p.opts.Log.Warn("a log diverged from what was read: folding standings anew", "err", err)
		p.metrics.resyncs.Inc()
		if p.Ready() == nil {
			skip = 0
		} else {
			skip++
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// end notes what ended Run.
func (p *Projection) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live.ready = false
	p.live.err = err
	p.live.oldest, p.live.taken, p.live.ats = 0, 0, nil
}

// session folds from the first start that the logs still hold, the first skip
// of them aside, until ctx ends or a log fails.
func (p *Projection) session(ctx context.Context, skip int) error {
	shards, err := p.shards(ctx)
	if err != nil {
		return err
	}
	st := state{genesis: map[int][16]byte{}}
	for _, i := range shards {
		s, err := p.store.Status(ctx, eventlog.Shard(i))
		if err != nil {
			return fmt.Errorf("leaderboard: %w", err)
		}
		st.shards[i].head, st.shards[i].mark, st.genesis[i] = s.Last, s.Durable, s.Genesis
	}
	from, followers, err := p.open(ctx, shards, st.genesis, skip)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range followers {
			f.Close()
		}
	}()
	for _, i := range shards {
		if s := &st.shards[i]; from.fold.shards[i].offset.Less(s.head) {
			s.behind = true
			st.behind++
		}
	}
	st.ready = st.behind == 0
	saved := from.offsets()
	p.mu.Lock()
	p.fold, p.live = from.fold, st
	p.mu.Unlock()
	p.opts.Log.Info("folding standings", "from", from.what, "shards", len(shards), "behind", st.behind)

	g, ctx := errgroup.WithContext(ctx)
	for i, f := range followers {
		g.Go(func() error { return p.follow(ctx, i, f) })
	}
	pub := newPublisher(p)
	g.Go(func() error { return pub.run(ctx) })
	g.Go(func() error { return pub.trim(ctx) })
	g.Go(func() error { return p.followControl(ctx) })
	if p.files.path != "" {
		g.Go(func() error { return p.checkpoint(ctx, saved) })
	}
	return g.Wait()
}

// shards returns the shards to fold.
func (p *Projection) shards(ctx context.Context) ([]int, error) {
	if p.opts.Shards != nil {
		return p.opts.Shards, nil
	}
	names, err := p.store.Logs(ctx)
	if err != nil {
		return nil, fmt.Errorf("leaderboard: %w", err)
	}
	var out []int
	for i := range cairn.ShardsMax {
		if slices.Contains(names, eventlog.Shard(i)) {
			out = append(out, i)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("leaderboard: %w: the store has no shard", eventlog.ErrMissing)
	}
	return out, nil
}

// open follows all shards from the best start that the logs still hold.
func (p *Projection) open(ctx context.Context, shards []int, genesis map[int][16]byte, skip int) (start, map[int]eventlog.Follower, error) {
	found, skipped := p.files.starts(p.opts.rules())
	p.saved.set(found, &p.files)
	for _, err := range skipped {
		p.opts.Log.Warn("passing over a checkpoint", "err", err)
	}
	found = found[min(skip, len(found)-1):]
	var errs []error
	for _, s := range found {
		followers, err := p.try(ctx, shards, genesis, &s)
		if err == nil {
			return s, followers, nil
		}
		if !passable(err) {
			return start{}, nil, err
		}
		errs = append(errs, err)
	}
	if p.opts.Fetch != nil {
		s, err := p.fetch(ctx)
		if err == nil {
			var followers map[int]eventlog.Follower
			if followers, err = p.try(ctx, shards, genesis, &s); err == nil {
				return s, followers, nil
			}
		}
		errs = append(errs, err)
	}
	return start{}, nil, fmt.Errorf("leaderboard: no start that the logs still hold, a checkpoint must be brought back: %w", errors.Join(errs...))
}

// passable reports whether another start may do where one failed with err.
func passable(err error) bool {
	return errors.Is(err, eventlog.ErrTrimmed) || errors.Is(err, eventlog.ErrDiverged) || errors.Is(err, errCheckpoint)
}

// try is openAt, and says what came of it.
func (p *Projection) try(ctx context.Context, shards []int, genesis map[int][16]byte, s *start) (map[int]eventlog.Follower, error) {
	followers, err := p.openAt(ctx, shards, genesis, s)
	if err != nil {
		err = fmt.Errorf("leaderboard: starting from %s: %w", s.what, err)
		if passable(err) {
			p.opts.Log.Warn("passing over a start", "err", err)
		}
	}
	return followers, err
}

// fetch gets a start from a peer. Peers may be starting, too: it tries for a
// while.
func (p *Projection) fetch(ctx context.Context) (s start, err error) {
	for tries := range fetchTries {
		if tries > 0 {
			select {
			case <-ctx.Done():
				return s, ctx.Err()
			case <-time.After(fetchPause):
			}
		}
		if s, err = p.fetchOnce(ctx); err == nil {
			return s, nil
		}
		p.opts.Log.Warn("can't fetch a checkpoint from a peer", "err", err)
	}
	return s, fmt.Errorf("leaderboard: a checkpoint from a peer: %w", err)
}

func (p *Projection) fetchOnce(ctx context.Context) (s start, err error) {
	r, err := p.opts.Fetch(ctx)
	if err != nil {
		return s, err
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return s, err
	}
	if err := checkImage(b); err != nil {
		return s, err
	}
	s.what = "a peer's checkpoint"
	if s.fold, s.genesis, err = decodeFold(b, p.opts.rules()); err != nil {
		return s, err
	}
	if p.files.path != "" {
		p.save(s.offsets(), b)
	}
	return s, nil
}

func (p *Projection) openAt(ctx context.Context, shards []int, genesis map[int][16]byte, s *start) (_ map[int]eventlog.Follower, err error) {
	for _, i := range sortedKeys(s.genesis) {
		if got, known := genesis[i]; known && got != s.genesis[i] {
			return nil, fmt.Errorf("%w: it is of another log %s", errCheckpoint, eventlog.Shard(i))
		} else if !known {
			return nil, fmt.Errorf("%w: it has folded %s, which is not to be folded", errCheckpoint, eventlog.Shard(i))
		}
	}
	followers := map[int]eventlog.Follower{}
	defer func() {
		if err != nil {
			for _, f := range followers {
				f.Close()
			}
		}
	}()
	for _, i := range shards {
		after := s.fold.shards[i].offset
		f, err := p.store.Follow(ctx, eventlog.Shard(i), after)
		if err != nil {
			return nil, fmt.Errorf("%s after %v: %w", eventlog.Shard(i), after, err)
		}
		followers[i] = f
	}
	return followers, nil
}

// follow folds one shard's log until ctx ends or the log fails.
func (p *Projection) follow(ctx context.Context, shard int, f eventlog.Follower) error {
	var claims []cairn.Claim
	known := map[cairn.HuntID]cairn.Cell{}
	for {
		recs, mark, err := f.Next(ctx)
		if err != nil {
			return fmt.Errorf("leaderboard: folding %s: %w", eventlog.Shard(shard), err)
		}
		for i := range recs {
			claims = claims[:0]
			if recs[i].Kind == eventlog.Data {
				if claims, err = wire.DecodeClaims(claims, recs[i].Body); err != nil {
					return fmt.Errorf("leaderboard: %s at %v: %w", eventlog.Shard(shard), recs[i].Offset, err)
				}
			}
			for j := range claims {
				id := claims[j].Hunt
				if _, ok := known[id]; !ok {
					if known[id], err = p.regions.root(ctx, id); err != nil {
						return err
					}
				}
			}
			if err := p.apply(shard, &recs[i], claims, known); err != nil {
				return fmt.Errorf("leaderboard: %w", err)
			}
		}
		p.marks(shard, mark)
	}
}

// apply folds one record. known has the cell of each hunt in it.
func (p *Projection) apply(shard int, rec *eventlog.Record, claims []cairn.Claim, known map[cairn.HuntID]cairn.Cell) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.live.shards[shard]
	for i := range claims {
		p.fold.hunt(claims[i].Hunt, known[claims[i].Hunt])
	}
	before := p.fold.claims
	if err := p.fold.apply(shard, rec, claims); err != nil {
		return err
	}
	p.metrics.claims.Add(float64(p.fold.claims - before))
	switch {
	case s.behind:
		// at never decreases in a shard, but for one that was taken over.
		if len(claims) > 0 {
			s.oldest = claims[0].At
		}
		if !rec.Offset.Less(s.head) {
			s.behind, s.oldest = false, 0
			p.live.behind--
			p.live.ready = p.live.behind == 0
			signal(p.wake)
		}
	case len(claims) > 0:
		for i := range claims {
			at := claims[i].At
			if len(p.live.ats) < unpublishedMax {
				p.live.ats = append(p.live.ats, at)
			}
			if p.live.oldest == 0 || at < p.live.oldest {
				p.live.oldest = at
			}
		}
	}
	if len(p.fold.dirty) > 0 {
		signal(p.wake)
	}
	return nil
}

// marks notes a shard's durable mark.
func (p *Projection) marks(shard int, mark eventlog.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := &p.live.shards[shard]; s.mark.Less(mark) {
		s.mark = mark
		signal(p.marked)
	}
}

// signal wakes whoever waits on c, which holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// checkpoint writes checkpoints until ctx ends, and a last one then. saved is
// what the one that the session started from covers.
func (p *Projection) checkpoint(ctx context.Context, saved map[int]eventlog.Offset) error {
	tick := time.NewTimer(p.opts.CheckpointEvery)
	defer tick.Stop()
	for {
		done := false
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
		}
		began := time.Now()
		offsets, bytes := p.cut(saved)
		for bytes != nil && !p.covered(offsets) && !done {
			// Never beyond the mark: what is behind it may yet be rolled back.
			select {
			case <-ctx.Done():
				done = true
			case <-p.marked:
			}
		}
		if bytes != nil && p.covered(offsets) && p.save(offsets, bytes) {
			saved = offsets
		}
		tick.Reset(max(p.opts.CheckpointEvery, 9*time.Since(began)))
		if done {
			return ctx.Err()
		}
	}
}

// cut returns the encoding of the fold as it is now, and how far it has folded
// each shard; nil if it has not moved on from saved. Folding goes on meanwhile.
func (p *Projection) cut(saved map[int]eventlog.Offset) (map[int]eventlog.Offset, []byte) {
	if !p.moved(saved) {
		return nil, nil
	}
	var c *cut
	p.mu.Lock()
	began := time.Now()
	c = p.fold.begin(p.live.genesis)
	p.mu.Unlock()
	p.metrics.hold.Observe(time.Since(began).Seconds())
	return c.offsets(), c.encode(func(do func()) {
		p.mu.RLock()
		began := time.Now()
		do()
		p.mu.RUnlock()
		p.metrics.hold.Observe(time.Since(began).Seconds())
	})
}

// moved reports whether the fold has moved on from saved.
func (p *Projection) moved(saved map[int]eventlog.Offset) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for i := range p.fold.shards {
		if p.fold.shards[i].offset != saved[i] {
			return true
		}
	}
	return false
}

// covered reports whether the logs are durable up to those offsets.
func (p *Projection) covered(offsets map[int]eventlog.Offset) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for i, o := range offsets {
		if p.live.shards[i].mark.Less(o) {
			return false
		}
	}
	return true
}

// save writes a checkpoint. A failure is not the projection's end: the logs
// are not trimmed past what is saved, and the next one is tried.
func (p *Projection) save(offsets map[int]eventlog.Offset, b []byte) bool {
	rotated, err := p.files.write(b)
	if err != nil {
		p.metrics.checkpoints.WithLabelValues("failed").Inc()
		p.opts.Log.Error("can't write a checkpoint of the standings", "err", err)
		return false
	}
	p.metrics.checkpoints.WithLabelValues("ok").Inc()
	p.saved.wrote(offsets, rotated)
	return true
}
