package claim

import (
	"context"
	"errors"
	"fmt"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// ErrNotOwner says that the attempt was not decided, and took nothing: its
// shard is not this service's. Only a Service with Options.Standby says so.
// Ask the one whose it is.
var ErrNotOwner = errors.New("claim: another owns this shard")

// errReleased ends the life of a shard that was let go of in good order.
var errReleased = errors.New("claim: released")

// Expect begins to take a shard over: from now on attempts on it wait for an
// Acquire, which must come soon, instead of being sent away. Whoever hands a
// shard over sends its callers here before it has let go.
func (s *Service) Expect(shard int) {
	s.shards[shard].set(func(st *shardState) { st.want = true })
}

// Acquire makes the service the owner of a shard that it expects: it fences
// the log, reads what the Book lacks, which is little if it is warm, and
// serves. It returns once the shard is served; ErrNotOwner if it is not
// expected, so also if it was released or lost since; or ctx's error, and then
// it goes on by itself until Release.
func (s *Service) Acquire(ctx context.Context, shard int) error {
	sh := s.shards[shard]
	sh.set(func(st *shardState) { st.asked = st.asked || st.want })
	return sh.await(ctx, func(st *shardState) (bool, error) {
		switch {
		case st.shut:
			return true, ErrUnavailable
		case !st.want:
			return true, ErrNotOwner
		}
		return st.ready, nil
	})
}

// Release lets go of a shard in good order: attempts that come from now on
// hear ErrNotOwner, those that came before are decided and their appends
// acknowledged, and the writer is closed. Then it returns nil: another may
// fence the log and shuts nobody out. The Book stays warm.
// If ctx ends before, it returns ctx's error and goes on by itself.
func (s *Service) Release(ctx context.Context, shard int) error {
	sh := s.shards[shard]
	sh.set(func(st *shardState) { st.want, st.asked = false, false })
	return sh.await(ctx, func(st *shardState) (bool, error) {
		return st.shut || !st.ready && !st.opening && !st.want, nil
	})
}

// Verify asks the log whether this service is still the owner of a shard, and
// returns ErrNotOwner if it is not. An owner that was fenced out hears of it
// with its next append, and until then may believe tiles to be free that are
// not. What it says from memory but a Won or a Gone, which are facts for ever,
// is true only if it was the owner after it had said so.
func (s *Service) Verify(ctx context.Context, shard int) error {
	sh := s.shards[shard]
	st := sh.state()
	if !st.ready {
		return ErrNotOwner
	}
	head, err := s.store.Status(ctx, sh.name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if head.Last.Epoch == st.epoch {
		return nil
	}
	sh.set(func(now *shardState) { now.fenced = now.fenced || now.epoch == st.epoch })
	return ErrNotOwner
}

// A Holding says how a service stands to a shard.
type Holding uint8

// The holdings.
const (
	Cold     Holding = iota // neither served nor known well enough to take over fast
	Warm                    // not served; a takeover would be fence and tail
	Awaiting                // attempts are taken, and wait until it is served
	Serving                 // fenced, replayed, and deciding attempts
	Leaving                 // released, but not all is answered yet
)

// String returns the holding's name.
func (h Holding) String() string {
	return [...]string{"cold", "warm", "awaiting", "serving", "leaving"}[h]
}

// Shards returns how many shards there are, owned or not.
func (s *Service) Shards() int { return len(s.shards) }

// ShardOf returns the shard that a tile belongs to, or false if its map is not
// known here, or has no such tile.
func (s *Service) ShardOf(ref cairn.TileRef) (int, bool) {
	lay := s.atlas.Load().layouts[mapKey{ref.Hunt, ref.Tick}]
	if lay == nil {
		return 0, false
	}
	return lay.Shard(ref.Tile)
}

// Knows reports whether Submit would take an attempt on a tile without waiting
// for its map.
func (s *Service) Knows(ref cairn.TileRef) bool {
	return s.caughtUp() && s.atlas.Load().layouts[mapKey{ref.Hunt, ref.Tick}] != nil
}

// Holding returns how the service stands to a shard now.
func (s *Service) Holding(shard int) Holding {
	sh := s.shards[shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch st := &sh.shardState; {
	case st.ready && st.want:
		return Serving
	case st.ready || st.opening && !st.want:
		return Leaving
	case st.want:
		return Awaiting
	case st.warm:
		return Warm
	}
	return Cold
}

// A shardState is what a shard and its service's callers tell each other.
type shardState struct {
	want    bool // attempts are taken; without it, the shard is let go of
	asked   bool // the log is to be fenced, if it is not yet
	opening bool // it is being fenced, or replayed up to the fence
	ready   bool // it is fenced and replayed, and served
	warm    bool // the Book has what the log had not long ago
	fenced  bool // it was seen that another has fenced it since
	shut    bool // run has returned: nobody takes from the queue any more
	epoch   uint64
}

// set changes the state, and wakes the loop and all who wait for a change.
func (sh *shard) set(change func(*shardState)) {
	sh.mu.Lock()
	change(&sh.shardState)
	close(sh.changed)
	sh.changed = make(chan struct{})
	sh.mu.Unlock()
	sh.signal()
}

func (sh *shard) state() shardState {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.shardState
}

// await waits until over says so, or ctx ends.
func (sh *shard) await(ctx context.Context, over func(*shardState) (bool, error)) error {
	for {
		sh.mu.Lock()
		done, err := over(&sh.shardState)
		changed := sh.changed
		sh.mu.Unlock()
		if done {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// over returns why the shard is not to be served any longer: it was fenced by
// another, or was released and has nothing left to answer. The loop asks when
// nothing is in flight.
func (sh *shard) over() error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch {
	case sh.fenced:
		return eventlog.ErrFenced
	case !sh.want && sh.queued == 0:
		return errReleased
	}
	return nil
}

// ended takes note that a life of the shard is over, for the given reason, and
// sends those away who wait for a shard that is another's now.
func (sh *shard) ended(err error) {
	released := errors.Is(err, errReleased)
	if !released {
		sh.book = nil // it may hold what is not in the log: build it anew
	}
	sh.set(func(st *shardState) {
		st.opening, st.ready, st.fenced, st.warm = false, false, false, released
		if sh.service.opts.Standby && !released {
			st.want, st.asked = false, false
		}
	})
	sh.refuse()
}

// refuse answers those who wait for a shard that is not wanted any more.
func (sh *shard) refuse() {
	sh.mu.Lock()
	var q []chain
	if !sh.want {
		q, sh.queue, sh.queued = sh.queue, nil, 0
	}
	sh.mu.Unlock()
	sh.dismiss(q, ErrNotOwner)
}

// lost reports why a life that ended so can't be followed by another one.
func (sh *shard) lost(err error) error {
	for _, final := range []error{eventlog.ErrMissing, eventlog.ErrDamaged, eventlog.ErrClosed} {
		if errors.Is(err, final) {
			return fmt.Errorf("claim: shard %d: %w", sh.index, err)
		}
	}
	return nil
}
