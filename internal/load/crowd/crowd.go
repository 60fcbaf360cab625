// Package crowd is hundreds of thousands of WebSocket clients that watch: they
// connect, fold what they are told, come back when they are cut, and measure.
//
//	Crowd ─▶ parts: loops, in this process or in workers ─▶ connections
//
// On Linux a loop is one goroutine on epoll; a connection is a record of 40
// bytes, and costs a lookup a delivery: what it knows is a number in a table of
// states, and thousands that are in the same state and hear the same bytes come
// to the same state, which is computed once. Elsewhere each has a goroutine.
//
// A process may not have files enough for all: then the crowd is carried by
// worker processes ([Options].Worker), which end when it does.
package crowd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/veltrix/cairn"
)

// Options tunes a Crowd. Targets and Dialect are required.
type Options struct {
	Targets []string // servers, as host:port or as URLs; connections are dealt out to them in turn
	Dialect Dialect

	Hunt      cairn.HuntID // what all watch, in the cairn dialects
	Regions   []string     // geohashes; none and no Standings watch nothing
	Standings bool

	Stalled float64 // part of the connections, 0 to 1, that have a small receive buffer until they resume, so that Stall soon shows

	Backoff    time.Duration // longest wait before the first try to come back; it doubles with each; 0 means 400ms
	BackoffCap time.Duration // 0 means 10s

	Worker     []string // command line of a worker process, which must call Work; nil has this process carry all
	Workers    int      // least number of worker processes; 0 means 1
	PerProcess int      // most connections a process; 0 means as many as it may have files, and at most 18,000

	// Gather is how long a loop that was woken by a few deliveries lets more of
	// them gather before it reads on; 0 is not at all. It makes the client
	// cheaper where it shares cores with what it measures, and every delivery
	// may be timed as that much later.
	Gather time.Duration

	Portable bool // do without epoll, also where there is it
}

// targetsOf returns where a worker's connections go: where the numbers allow
// it, those of each server are carried by as few workers as can be, so that one
// server's round of writes does not wake them all.
func (o *Options) targetsOf(worker int) []string {
	t, w := len(o.Targets), max(1, o.Workers)
	switch {
	case worker > w:
	case t%w == 0:
		var some []string
		for i := worker - 1; i < t; i += w {
			some = append(some, o.Targets[i])
		}
		return some
	case w%t == 0:
		return []string{o.Targets[(worker-1)%t]}
	}
	return o.Targets
}

func (o Options) withDefaults() (Options, error) {
	if len(o.Targets) == 0 {
		return o, &cairn.FieldError{Field: "Targets", Msg: "are missing; want at least one host:port"}
	}
	if err := o.Dialect.check(); err != nil {
		return o, err
	}
	if o.Gather < 0 || o.Gather > time.Second {
		return o, &cairn.FieldError{Field: "Gather", Msg: fmt.Sprintf("is %v; want 0 to 1s", o.Gather)}
	}
	if !(o.Stalled >= 0 && o.Stalled <= 1) {
		return o, &cairn.FieldError{Field: "Stalled", Msg: fmt.Sprintf("is %v; want 0 to 1", o.Stalled)}
	}
	if o.Dialect.cairn() {
		o.Regions = slices.Compact(slices.Sorted(slices.Values(o.Regions)))
	}
	if o.Regions == nil {
		o.Regions = []string{}
	}
	if o.Backoff == 0 {
		o.Backoff = 400 * time.Millisecond
	}
	if o.BackoffCap == 0 {
		o.BackoffCap = 10 * time.Second
	}
	if o.PerProcess == 0 {
		o.PerProcess = min(18_000, max(100, filesMax()-1000))
	}
	return o, nil
}

// A part carries some of a crowd's connections.
type part interface {
	grow(ctx context.Context, n int, perSecond float64) error
	stall(n int) (int, error)
	resume() error
	dropAll() error
	read() (*Stats, error)
	close() error
}

// A Crowd is connections that watch. Its methods may be called concurrently,
// but Open and Close with no other.
type Crowd struct {
	opts  Options
	parts *parts

	growing sync.Mutex // held while connections are dealt out
}

// Open returns a crowd without connections.
func Open(ctx context.Context, opts Options) (*Crowd, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Crowd{opts: opts, parts: &parts{}}
	if opts.Worker == nil {
		err = c.parts.add(ctx, opts, 0)
	} else {
		err = c.need(ctx, max(1, opts.Workers))
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// need starts workers until there are n.
func (c *Crowd) need(ctx context.Context, n int) error {
	starts, ctx := errgroup.WithContext(ctx)
	starts.SetLimit(4)
	for i := len(c.parts.all()); i < n; i++ {
		starts.Go(func() error { return c.parts.add(ctx, c.opts, i+1) })
	}
	return starts.Wait()
}

// Grow adds n connections, so many a second or, for 0, as fast as it goes, and
// waits until all that the crowd has were ready once: a connection is ready
// when it knows what it watches. What is refused, cut or lost meanwhile tries
// again. An error that is not ctx's means that this crowd can't have so many.
func (c *Crowd) Grow(ctx context.Context, n int, perSecond float64) error {
	shares, err := c.deal(ctx, n)
	if err != nil {
		return err
	}
	grows, ctx := errgroup.WithContext(ctx)
	for p, share := range shares {
		if share > 0 {
			grows.Go(func() error { return p.grow(ctx, share, perSecond*float64(share)/float64(n)) })
		}
	}
	return grows.Wait()
}

// deal gives n connections to parts, and starts workers for them if need be.
func (c *Crowd) deal(ctx context.Context, n int) (map[part]int, error) {
	c.growing.Lock()
	defer c.growing.Unlock()
	total, most := c.parts.size()+n, c.opts.PerProcess
	if c.opts.Worker == nil {
		if total > most {
			return nil, fmt.Errorf("crowd: %d connections are too many for one process, which may have %d; want Options.Worker", total, most)
		}
	} else if err := c.need(ctx, (total+most-1)/most); err != nil {
		return nil, err
	}
	return c.parts.deal(n), nil
}

// Stall has n connections stop reading, those with a small buffer first, and
// returns how many there were to stall. From then on they are left out of
// Latency and States. One that is cut meanwhile stays away until Resume.
func (c *Crowd) Stall(_ context.Context, n int) (int, error) {
	all := c.parts.all()
	done := 0
	for i, p := range all {
		k, err := p.stall((n - done + len(all) - i - 1) / (len(all) - i))
		done += k
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Resume has all that stalled read again. What they should have read before
// stays out of Latency.
func (c *Crowd) Resume(context.Context) error { return c.each(part.resume) }

// DropAll cuts every connection at once, by a reset. They come back by
// themselves, with back-off and jitter.
func (c *Crowd) DropAll(context.Context) error { return c.each(part.dropAll) }

func (c *Crowd) each(do func(part) error) error {
	var g errgroup.Group
	for _, p := range c.parts.all() {
		g.Go(func() error { return do(p) })
	}
	return g.Wait()
}

// Window returns what happened since the last Window, or since Open.
func (c *Crowd) Window(context.Context) (*Stats, error) {
	all := c.parts.all()
	read := make([]*Stats, len(all))
	var g errgroup.Group
	for i, p := range all {
		g.Go(func() (err error) {
			read[i], err = p.read()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	sum := NewStats()
	for _, s := range read {
		sum.merge(s)
	}
	return sum, nil
}

// Settle waits until all who are ready and read know the same, or ctx ends, and
// returns what Window does.
func (c *Crowd) Settle(ctx context.Context) (*Stats, error) {
	sum, err := c.Window(ctx)
	for err == nil && sum.Behind() > 0 {
		select {
		case <-ctx.Done():
			return sum, nil
		case <-time.After(settleEvery):
		}
		var s *Stats
		if s, err = c.Window(ctx); err == nil {
			sum.Add(s)
		}
	}
	return sum, err
}

const settleEvery = 20 * time.Millisecond

// Pids returns the process ids of the workers; none if this process carries
// all.
func (c *Crowd) Pids() []int {
	var ids []int
	for _, p := range c.parts.all() {
		if w, ok := p.(*worker); ok {
			ids = append(ids, w.cmd.Process.Pid)
		}
	}
	return ids
}

// Close ends all connections and workers.
func (c *Crowd) Close() error { return c.each(part.close) }
