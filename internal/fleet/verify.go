package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/claim"
)

// decide decides an attempt, or asks who holds its tile.
func (o *Owner) decide(ctx context.Context, a *cairn.Attempt, lookup bool) (v cairn.Verdict, err error) {
	if lookup {
		v, err = o.service.Lookup(ctx, a.TileRef, a.Player)
	} else {
		v, err = o.service.Claim(ctx, a)
	}
	if err != nil || o.sure(&v) {
		return v, err
	}
	shard, ok := o.service.ShardOf(a.TileRef)
	if !ok || o.trusts(shard) {
		return v, nil
	}
	return v, o.confirm(ctx, shard)
}

// sure reports whether a verdict is true whoever owns the shard: it is a fact
// for ever, or says nothing. All else says that the tile was free as far as
// this process knows.
func (*Owner) sure(v *cairn.Verdict) bool {
	return v.Outcome == cairn.Won || v.Outcome == cairn.Gone || v.Outcome == cairn.Pending
}

// confirm asks the log whether this process owns a shard, and returns
// claim.ErrNotOwner if it does not.
func (o *Owner) confirm(ctx context.Context, shard int) error {
	o.metrics.verified.Inc()
	return o.asking[shard].ask(ctx, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.timing.TTL)
		defer cancel()
		return o.service.Verify(ctx, shard)
	})
}

// serving returns the shards that are served.
func (o *Owner) serving() (shards []int) {
	for shard, h := range o.holdings() {
		if h == claim.Serving {
			shards = append(shards, shard)
		}
	}
	return shards
}

// verify asks the log about each of some shards. The service lets go of those
// that are another's. A process that was paused, and lost some, is not live
// again before it has read them anew: those who have them serve, and would give
// them back at once to one who can't.
func (o *Owner) verify(ctx context.Context, shards []int) {
	var wg sync.WaitGroup
	for _, shard := range shards {
		wg.Go(func() {
			err := o.service.Verify(ctx, shard)
			if err == nil {
				return
			}
			o.opts.Log.Info("a shard that was served may be another's", "shard", shard, "err", err)
			if errors.Is(err, claim.ErrNotOwner) {
				o.mu.Lock()
				o.warm = false
				o.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// trusts reports whether this process is the owner of a shard that it serves,
// without asking the log: its lease runs, and it knows of nobody to whom the
// shard falls. It must be asked after what rests on it was decided.
func (o *Owner) trusts(shard int) bool {
	o.mu.Lock()
	_, given := o.given[shard]
	o.mu.Unlock()
	members, _ := o.view.Members()
	return !given && o.heart.runs() && time.Since(o.view.Asked()) < o.timing.TTL &&
		o.ownerOf(shard).Name == o.opts.Name && !o.contested(members, shard)
}

// An inquirer has one question asked for all who have it: whoever comes while
// it is being asked shares the next one with all who do, as what was asked
// before says nothing to them. So a registry that is away does not turn every
// attempt into a question to the log.
type inquirer struct {
	turn chan struct{} // capacity 1: whoever has put something in asks

	mu   sync.Mutex
	next *inquiry // not asked yet; nil if nobody waits
}

type inquiry struct {
	done chan struct{} // closed when err is the answer
	err  error
}

// ask returns what f said after ask was called.
func (i *inquirer) ask(ctx context.Context, f func() error) error {
	i.mu.Lock()
	if i.next == nil {
		i.next = &inquiry{done: make(chan struct{})}
	}
	q := i.next
	i.mu.Unlock()
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return ctx.Err()
	case i.turn <- struct{}{}:
	}
	defer func() { <-i.turn }()
	select {
	case <-q.done:
		return q.err
	default:
	}
	i.mu.Lock()
	i.next = nil
	i.mu.Unlock()
	q.err = f()
	close(q.done)
	return q.err
}
