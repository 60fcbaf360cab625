package claim

import (
	"context"
	"errors"
	"fmt"

	"github.com/veltrix/cairn/internal/eventlog"
)

// ErrNotOwner says that the attempt was not decided, and took nothing: its
// shard is not this service's. Only a Service with Options.Standby says so.
// Ask the one whose it is.
var ErrNotOwner = errors.New("claim: another owns this shard")

// errReleased ends the life of a shard that was let go of in good order.
var errReleased = errors.New("claim: released")

// Expect makes attempts on a shard wait for an Acquire that will come soon,
// instead of being sent away: whoever hands a shard over sends its callers
// here before it has let go.
func (s *Service) Expect(shard int) {
	s.shards[shard].set(func(sh *shardState) { sh.want = true })
}

// Acquire makes the service the owner of a shard: it fences the log, reads
// what the Book lacks, which is little if it is warm, and serves. It returns
// once the shard is served; ErrNotOwner if it was lost or released before; or
// ctx's error, and then it goes on by itself until Release.
func (s *Service) Acquire(ctx context.Context, shard int) error {
	sh := s.shards[shard]
	sh.set(func(st *shardState) { st.want, st.asked = true, true })
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
	shut    bool // run has returned: nobody takes from the queue any more
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

// idle reports whether a shard that was released has nothing left to answer.
// The loop asks when nothing is in flight.
func (sh *shard) idle() bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return !sh.want && len(sh.queue) == 0
}

// ended takes note that a life of the shard is over, for the given reason, and
// sends those away who wait for a shard that is another's now.
func (sh *shard) ended(err error) {
	released := errors.Is(err, errReleased)
	if !released {
		sh.book = nil // it may hold what is not in the log: build it anew
	}
	sh.set(func(st *shardState) {
		st.opening, st.ready, st.warm = false, false, released
		if sh.service.opts.Standby && !released {
			st.want, st.asked = false, false
		}
	})
	sh.refuse()
}

// refuse answers those who wait for a shard that is not wanted any more.
func (sh *shard) refuse() {
	sh.mu.Lock()
	var q []*call
	if !sh.want {
		q, sh.queue = sh.queue, nil
	}
	sh.mu.Unlock()
	for _, c := range q {
		sh.finish(c, ErrNotOwner)
	}
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
