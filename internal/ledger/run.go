package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
)

// discoverEvery is how often Run looks for shards provisioned since it began.
const discoverEvery = 5 * time.Second

// retryMin is the first wait before what failed is tried again.
const retryMin = 10 * time.Millisecond

// Run settles what the logs of its shards hold up to their durable marks, from
// where the ledger stands, until ctx ends: then it returns nil, and what was
// read and not committed is read again by the next Run. A shard whose log does
// not fit what was settled is halted until it does, and the others go on: see
// Ready. A transaction that fails is tried again until it commits. The other
// errors are those of a store that was closed or of a ledger opened read-only.
func (l *Ledger) Run(ctx context.Context, store eventlog.Store) error {
	if l.write == nil {
		return ErrReadOnly
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s := &settler{
		Ledger: l,
		store:  store,
		stop:   stop,
		in:     make(chan delivery, 64),
		shards: map[int]*shard{},
		begin:  map[int]*shard{},
		queue:  map[int][]record{},
		writer: writer{bulk: l.dialect.bulk()},
	}
	l.mu.Lock()
	l.store, l.shards, l.failing = store, map[int]*progress{}, nil
	l.mu.Unlock()
	defer func() {
		stop(nil)
		s.followers.Wait()
		l.mu.Lock()
		l.store, l.shards = nil, nil
		l.mu.Unlock()
	}()
	s.run(ctx)
	if err := context.Cause(ctx); errors.Is(err, eventlog.ErrClosed) {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// A settler is one Run: followers read the shards and send to one loop, which
// writes.
type settler struct {
	*Ledger
	store     eventlog.Store
	stop      context.CancelCauseFunc
	in        chan delivery // never closed; followers stop when ctx ends
	followers sync.WaitGroup

	// Owned by run.
	changed <-chan struct{} // the shards to settle may be others; nil: they never are
	shards  map[int]*shard  // that are settled here
	begin   map[int]*shard  // of these, those to be followed from where the database stands
	runs    uint64          // followers so far
	queue   map[int][]record
	rows    int // claims in queue
	writer  writer
}

// A shard is a log that is settled here.
type shard struct {
	*progress
	id   int
	at   position // settled
	run  uint64   // of the newest follower
	stop func()   // ends the newest follower and waits for it; nil while there is none
}

// run owns the transactions until ctx ends.
func (s *settler) run(ctx context.Context) {
	s.choose(ctx)
	discover := time.NewTicker(discoverEvery)
	defer discover.Stop()
	full := time.NewTimer(0) // the oldest claim in the queue has waited long enough
	defer full.Stop()
	full.Stop()
	waiting := false
	for {
		if len(s.begin) > 0 {
			s.follows(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
			s.choose(ctx)
		case <-discover.C:
			s.choose(ctx)
		case d := <-s.in:
			s.enqueue(d)
			if !waiting && len(s.queue) > 0 {
				full.Reset(s.opts.CommitEvery)
				waiting = true
			}
		case <-full.C:
			s.settle(ctx)
			waiting = false
		}
		if s.rows >= s.opts.RowsMax {
			s.settle(ctx)
			full.Stop()
			waiting = false
		}
	}
}

// enqueue takes in a delivery of a follower that is still the newest.
func (s *settler) enqueue(d delivery) {
	if sh := s.shards[d.shard]; sh == nil || d.run != sh.run {
		return
	}
	s.queue[d.shard] = append(s.queue[d.shard], d.records...)
	for i := range d.records {
		s.rows += len(d.records[i].claims)
	}
}

// choose finds out which shards are to be settled here: it begins those that
// are new and lets go of those that are not any more.
func (s *settler) choose(ctx context.Context) {
	owns := func(int) bool { return true }
	if s.opts.Shards != nil {
		owns, s.changed = s.opts.Shards.Owns, s.opts.Shards.Changed()
	}
	names, err := s.store.Logs(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.opts.Log.Error("ledger: list logs", "err", err)
		}
		if errors.Is(err, eventlog.ErrClosed) {
			s.stop(err)
		}
	}
	for _, name := range names {
		if id, ok := shardID(name); ok && s.shards[id] == nil && owns(id) {
			sh := &shard{id: id, progress: new(progress)}
			s.shards[id], s.begin[id] = sh, sh
		}
	}
	for id, sh := range s.shards {
		if !owns(id) {
			s.drop(sh)
			delete(s.shards, id)
			delete(s.begin, id)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Ledger.shards = make(map[int]*progress, len(s.shards))
	for id, sh := range s.shards {
		s.Ledger.shards[id] = sh.progress
	}
}

// shardID returns which shard a log is of.
func shardID(name eventlog.Name) (int, bool) {
	digits, ok := strings.CutPrefix(string(name), "s")
	id, err := strconv.Atoi(digits)
	return id, ok && err == nil && eventlog.Shard(id) == name
}

// drop ends what is under way of a shard: its follower, and what it sent.
func (s *settler) drop(sh *shard) {
	if sh.stop != nil {
		sh.stop()
		sh.stop = nil
	}
	for _, r := range s.queue[sh.id] {
		s.rows -= len(r.claims)
	}
	delete(s.queue, sh.id)
	sh.run = 0 // what it still has under way is nobody's
}

// again has shards of batches begin anew from where the database says they
// stand.
func (s *settler) again(batches []batch) {
	for _, b := range batches {
		if sh := s.shards[b.shard]; sh != nil {
			s.drop(sh)
			s.begin[b.shard] = sh
		}
	}
}

// follows follows the shards in begin from where the database says they stand.
func (s *settler) follows(ctx context.Context) {
	var sums map[int]ShardSums
	if !s.retry(ctx, "read offsets", func() (err error) {
		ctx, done := s.bounded(ctx)
		defer done()
		sums, err = readShardSums(ctx, s.write)
		return err
	}) {
		return
	}
	for _, sh := range s.begin {
		s.runs++
		sh.run, sh.at = s.runs, position{sums[sh.id].Offset, sums[sh.id].Chain}
		sh.reset(sh.at.offset)
		fctx, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		sh.stop = func() { cancel(); <-ended }
		run, at := sh.run, sh.at
		s.followers.Go(func() {
			defer close(ended)
			defer cancel()
			s.follow(fctx, sh, run, at)
		})
	}
	clear(s.begin)
}

// follow runs one follower of a shard. After an error it goes on behind the
// last record that it sent; after a halt, too: an operator may have mended the
// log, or its owner, after a failover that lost the end of it.
func (s *settler) follow(ctx context.Context, sh *shard, run uint64, at position) {
	for wait := retryMin; ; wait = min(2*wait, s.opts.RetryMax) {
		err := follow(ctx, s.store, sh.id, run, &at, sh.progress, s.in)
		var h *haltError
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, eventlog.ErrClosed):
			s.stop(err)
			return
		case errors.As(err, &h):
			if sh.halt(err) {
				s.opts.Log.Error("ledger: shard halted", "shard", sh.id, "err", err)
			}
			wait = s.opts.RetryMax
		default:
			s.opts.Log.Warn("ledger: follow", "shard", sh.id, "err", err)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// retry calls f until it succeeds, and reports whether it did before ctx ended
// or the shards to settle changed.
func (s *settler) retry(ctx context.Context, what string, f func() error) bool {
	for wait := retryMin; ; wait = min(2*wait, s.opts.RetryMax) {
		err := f()
		s.mu.Lock()
		s.failing = err
		s.mu.Unlock()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		s.metrics.failures.Inc()
		s.opts.Log.Error("ledger: "+what+" failed; trying again", "err", err, "in", wait)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			return false
		case <-s.changed:
			return false
		}
	}
}
