package claim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/wire"
)

// A reading is what a follower returned. Whoever takes it closes done when
// the records, which are borrowed, are not needed any more.
type reading struct {
	recs []eventlog.Record
	err  error
	done chan struct{}
}

// read hands on what f returns until it fails or ctx ends, and closes it.
func read(ctx context.Context, f eventlog.Follower, out chan<- reading) {
	defer f.Close()
	for {
		r := reading{done: make(chan struct{})}
		r.recs, _, r.err = f.Next(ctx)
		select {
		case out <- r:
		case <-ctx.Done():
			return
		}
		if r.err != nil {
			return
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return
		}
	}
}

// fenceWithin is how long a shard that is taken over may have nothing to read
// and not its fence: a failover can lose that, and then it never comes.
const fenceWithin = 10 * time.Second

// An opening is what became of the attempt to fence the log.
type opening struct {
	w   eventlog.Writer
	err error
}

// stand keeps the Book as good as the log: the standby of whoever owns the
// shard. Once it is asked to own the shard it fences the log and returns the
// writer when the Book has all up to the fence, so that a takeover costs the
// fence and what was written while it was being placed. A shard that is owned
// from the beginning takes the same way.
func (sh *shard) stand(ctx context.Context) (w eventlog.Writer, err error) {
	ctx, cancel := context.WithCancel(ctx)
	head, f, err := sh.follow(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	var wg sync.WaitGroup
	reads := make(chan reading)
	opened := make(chan opening, 1)
	wg.Go(func() { read(ctx, f, reads) })
	defer func() {
		cancel()
		wg.Wait()
		if err == nil {
			return
		}
		select {
		case o := <-opened:
			if o.err == nil {
				w = o.w
			}
		default:
		}
		if w != nil {
			w.Close()
		}
		w = nil
	}()
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	var overdue <-chan time.Time // once the fence is there: nothing was read for too long
	for {
		if w != nil && !sh.at.Less(w.Fence()) {
			// What stands behind it in its own epoch is the writer's mark: on
			// a busy machine the fence is read later than that is written.
			if sh.at.Epoch != w.Fence().Epoch {
				return w, fmt.Errorf("%w: %v stands behind the fence %v", eventlog.ErrFenced, sh.at, w.Fence())
			}
			return w, nil
		}
		switch st := sh.state(); {
		case !st.want:
			sh.refuse()
		case st.asked && !st.opening:
			sh.set(func(st *shardState) { st.opening = true })
			wg.Go(func() {
				w, err := sh.service.store.Open(ctx, sh.name)
				opened <- opening{w, err}
			})
		}
		select {
		case r := <-reads:
			if r.err == nil {
				r.err = sh.fold(ctx, r.recs)
			}
			if r.err != nil {
				return w, fmt.Errorf("replay: %w", r.err)
			}
			close(r.done)
			if w != nil {
				overdue = time.After(fenceWithin)
			}
			if !sh.at.Less(head) && !sh.state().warm {
				sh.set(func(st *shardState) { st.warm = true })
			}
		case o := <-opened:
			if w, err = o.w, o.err; err != nil {
				return nil, err
			}
			overdue = time.After(fenceWithin)
		case <-overdue:
			return w, fmt.Errorf("%w: the fence %v is not in the log, which ends at %v", eventlog.ErrUnknown, w.Fence(), sh.at)
		case <-sh.wake:
		case <-forget.C:
			sh.book.Forget(sh.service.now())
		case <-ctx.Done():
			return w, ctx.Err()
		}
	}
}

// follow follows the log from where the Book stands, or from the oldest record
// that a new Book needs, and returns where the log's head was.
func (sh *shard) follow(ctx context.Context) (head eventlog.Offset, f eventlog.Follower, err error) {
	st, err := sh.service.store.Status(ctx, sh.name)
	if err != nil {
		return head, nil, err
	}
	if sh.book != nil {
		f, err := sh.service.store.Follow(ctx, sh.name, sh.at)
		return st.Last, f, err
	}
	sh.book, sh.at = NewBook(sh.index, sh.service.keeper), eventlog.Offset{}
	f, err = followFrom(ctx, sh.service.store, sh.name, st.From)
	return st.Last, f, err
}

// fold replays records into the Book.
func (sh *shard) fold(ctx context.Context, recs []eventlog.Record) error {
	asked := false
	for i := range recs {
		r := &recs[i]
		if r.Kind == eventlog.Data {
			var err error
			if sh.claims, err = wire.DecodeClaims(sh.claims[:0], r.Body); err != nil {
				return fmt.Errorf("%w: record %v: %w", eventlog.ErrDamaged, r.Offset, err)
			}
			for j := range sh.claims {
				if err := sh.replay(ctx, &sh.claims[j], r.Offset, j, &asked); err != nil {
					return err
				}
			}
		}
		sh.at = r.Offset
	}
	return nil
}

// replay folds one claim. A claim on a map that is not in the atlas is either
// of a map that is forgotten, or of one that this process has yet to read: the
// Book must not miss those. Whoever granted the claim had read its map, so it
// stands before what is the head of the maps log by now; having read up to
// there once settles it for all records that are already here.
func (sh *shard) replay(ctx context.Context, c *cairn.Claim, off eventlog.Offset, index int, asked *bool) error {
	key := mapKey{c.Hunt, c.Tick}
	lay := sh.service.atlas.Load().layouts[key]
	if lay == nil && !*asked {
		if err := sh.service.awaitMaps(ctx); err != nil {
			return err
		}
		*asked = true
		lay = sh.service.atlas.Load().layouts[key]
	}
	if !sh.book.Replay(lay, c, off, index) {
		sh.log.Error("the log grants a tile again; the first grant holds", "tile", c.TileRef.String(), "offset", off.String(), "index", index)
	}
	return nil
}

// followFrom follows a log from the record at from on, or from the oldest
// that is held if from is zero or gone.
func followFrom(ctx context.Context, store eventlog.Store, name eventlog.Name, from eventlog.Offset) (eventlog.Follower, error) {
	if !from.IsZero() {
		f, err := store.Follow(ctx, name, from.Before())
		if !errors.Is(err, eventlog.ErrTrimmed) {
			return f, err
		}
	}
	st, err := store.Status(ctx, name)
	if err != nil {
		return nil, err
	}
	return store.Follow(ctx, name, st.Base)
}
