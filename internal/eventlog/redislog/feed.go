package redislog

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// How many entries one poll, or one read of a follower that is behind, takes.
const pollCount = 64

// A feed is the newest part of a log, polled once for all its followers.
type feed struct {
	// Static.
	s       *Store
	log     eventlog.Name
	genesis [16]byte

	// Owned by the poll under way: at most one.
	pos    eventlog.Offset // of the newest entry read, seals included
	looked time.Time       // when the newest record was compared last
	quiet  int             // polls since there was something new; read while none is under way, with mu
	armed  bool            // the newest poll armed the bell; likewise

	mu      sync.Mutex
	ring    []eventlog.Record // without a gap, chain checked; never empty; never overwritten while lent
	bytes   int               // of the bodies in ring
	durable eventlog.Offset   // the highest mark seen
	err     error             // why the feed has ended
	changed chan struct{}     // closed, and made anew, when any of the above changes
	users   int               // followers
	busy    bool              // a poll is under way
	slept   bool              // it was cold before that poll
	rung    bool              // the bell rang since the newest poll began
}

// feed returns the feed of a log, which begins at last if it is new, for one
// more user.
func (s *Store) feed(log eventlog.Name, last entry) (*feed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, eventlog.ErrClosed
	}
	f := s.feeds[log]
	if f == nil {
		f = &feed{
			s: s, log: log, genesis: last.genesis,
			pos: last.Offset, looked: s.world.now(),
			ring: []eventlog.Record{last.Record}, bytes: len(last.Body), durable: last.Mark,
			changed: make(chan struct{}),
		}
		s.feeds[log] = f
		s.rouse()
	}
	f.mu.Lock()
	f.users++
	f.mu.Unlock()
	return f, nil
}

// leave takes a user away; a feed without any ends.
func (f *feed) leave() {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users--; f.users == 0 && f.s.feeds[f.log] == f {
		delete(f.s.feeds, f.log)
	}
}

// wake tells followers. The caller holds mu.
func (f *feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// fail ends the feed: whoever follows gets err, and who comes next a new feed.
func (f *feed) fail(err error) {
	f.s.mu.Lock()
	if f.s.feeds[f.log] == f {
		delete(f.s.feeds, f.log)
	}
	f.s.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	f.wake()
}

// forget drops records before the given offset, but for the newest.
func (f *feed) forget(before eventlog.Offset) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.ring) > 1 && f.ring[0].Offset.Less(before) {
		f.bytes -= len(f.ring[0].Body)
		f.ring = f.ring[1:]
	}
}

// add appends records that continue the ring, or begin it anew.
func (f *feed) add(list []entry, anew bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if anew {
		f.ring, f.bytes = nil, 0
	}
	for i := range list {
		f.ring = append(f.ring, list[i].Record)
		f.bytes += len(list[i].Body)
		if f.durable.Less(list[i].Mark) {
			f.durable = list[i].Mark
		}
	}
	for len(f.ring) > 1 && f.bytes > f.s.opts.RingBytesMax {
		f.bytes -= len(f.ring[0].Body)
		f.ring = f.ring[1:]
	}
	f.wake()
}

// last returns the newest record.
func (f *feed) last() eventlog.Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ring[len(f.ring)-1]
}

// poll looks for records behind all feeds, every PollEvery and when a bell
// rings, until the store closes: one pipeline for each node, so that a node that
// hangs holds up its own logs only. It sleeps through the polls in which nothing
// is asked for: a process that waits is woken by its clock as seldom as may be.
func (s *Store) poll() {
	timer := time.NewTimer(s.opts.PollEvery)
	defer timer.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	begin := time.Now()
	for last := 0; ; {
		select {
		case <-s.ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		n := int(time.Since(begin) / s.opts.PollEvery)
		feeds, every := s.idleFeeds(last, n)
		for addr, feeds := range feeds {
			wg.Go(func() { s.pollNode(addr, feeds) })
		}
		last = n
		timer.Reset(time.Until(begin.Add(time.Duration(n/every+1) * time.Duration(every) * s.opts.PollEvery)))
	}
}

// A log that had nothing new for a while is asked for less often: most shards
// are quiet most of the time, and each question costs Redis a command. One
// whose bell is armed is asked only as often as it is compared.
const (
	coldAfter = 10 // polls without a record
	coldEvery = 4  // polls
)

// armedEvery is every how many polls, a multiple of coldEvery, a log is asked
// for whose bell is armed.
func (s *Store) armedEvery() int {
	cold := coldEvery * s.opts.PollEvery
	return coldEvery * int((lookEvery+cold-1)/cold)
}

// every returns every how many polls f is asked for. Called with mu, while no
// poll is under way.
func (f *feed) every() int {
	switch {
	case f.armed:
		return f.s.armedEvery()
	case f.quiet >= coldAfter:
		return coldEvery
	}
	return 1
}

// idleFeeds takes the feeds that rang, and those that are to be asked for at
// one of the polls after last and up to n, by node; but for those that a poll
// is under way for. every says when one is next: at a multiple of that.
func (s *Store) idleFeeds(last, n int) (out map[string][]*feed, every int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard()
	every = s.armedEvery()
	if len(s.feeds) == 0 {
		return nil, every
	}
	t := s.topo.Load()
	out = make(map[string][]*feed)
	for _, f := range s.feeds {
		f.mu.Lock()
		its := 1 // what the poll under way will say of it is not known yet
		if !f.busy {
			if f.rung { // as one that was never quiet
				f.quiet, f.armed = 0, false
			}
			its = f.every()
			if f.rung || n/its != last/its {
				s.metrics.polled(f.rung)
				f.busy, f.rung, f.slept = true, false, its > 1
				out[t.addr(f.log)] = append(out[t.addr(f.log)], f)
			}
		}
		every = min(every, its)
		f.mu.Unlock()
	}
	return out, every
}

func (s *Store) pollNode(addr string, feeds []*feed) {
	defer func() {
		again := false
		for _, f := range feeds {
			f.mu.Lock()
			f.busy = false
			again = again || f.rung || f.slept && f.every() == 1
			f.mu.Unlock()
		}
		if again {
			s.rouse()
		}
	}()
	had := s.topo.Load()
	err := s.pollFeeds(addr, feeds)
	if err == nil || s.ctx.Err() != nil {
		return
	}
	s.opts.Log.Warn("can't poll", "node", addr, "err", err)
	ctx, cancel := s.world.within(s.ctx, s.opts.ReplyMax)
	defer cancel()
	_ = s.look(ctx, had)
	_ = (&backoff{s.world, 20 * time.Millisecond}).wait(ctx) // spare who is down
}

// lookEvery is how often a feed with nothing new compares the log's newest
// record with its own: a log that was rolled back has nothing new either.
const lookEvery = 200 * time.Millisecond

func (s *Store) pollFeeds(addr string, feeds []*feed) error {
	n, err := s.node(s.ctx, addr)
	if err != nil {
		return err
	}
	now := s.world.now()
	ctx, cancel := s.world.within(s.ctx, s.opts.ReplyMax)
	defer cancel()
	rs := n.client.DoMulti(ctx, s.questions(n.client.B(), feeds, now)...)
	tracks := false
	if slices.ContainsFunc(feeds, (*feed).arms) {
		tracks = s.tells(addr, rs[0].Error())
		rs = rs[1:]
	}
	for _, f := range feeds {
		var e error
		rs, e = f.heed(rs, now, tracks)
		switch {
		case e == nil:
		case ending(e):
			f.fail(e)
		default:
			err = e
		}
	}
	return err
}

// questions are what a poll asks a node.
func (s *Store) questions(b rueidis.Builder, feeds []*feed, now time.Time) rueidis.Commands {
	cmds := make(rueidis.Commands, 0, 1+3*len(feeds))
	if slices.ContainsFunc(feeds, (*feed).arms) {
		cmds = append(cmds, b.ClientTracking().On().Optin().Build()) // this may be another connection than the last time
	}
	for _, f := range feeds {
		key := s.key(f.log)
		if f.arms() {
			cmds = append(cmds, b.ClientCaching().Yes().Build()) // of the next command
		}
		cmds = append(cmds, b.Xrange().Key(key).Start("("+f.pos.String()).End("+").Count(pollCount).Build())
		if f.looks(now) {
			cmds = append(cmds, b.Xrevrange().Key(key).End("+").Start("-").Count(2).Build())
		}
	}
	return cmds
}

// heed takes the answers to f's questions off rs, and returns those of others.
// tracks says that bells can be armed.
func (f *feed) heed(rs []rueidis.RedisResult, now time.Time, tracks bool) (others []rueidis.RedisResult, err error) {
	looks, armed := f.looks(now), false
	if f.arms() {
		armed = f.s.tells(f.s.key(f.log), rs[0].Error()) && tracks
		rs = rs[1:]
	}
	list, err := entries(rs[0])
	rs = rs[1:]
	f.quiet++
	f.armed = armed && err == nil && len(list) == 0
	if err == nil && len(list) > 0 {
		f.quiet = 0
		err = f.took(list)
	}
	if looks {
		if err == nil && len(list) == 0 {
			err = f.compare(rs[0])
		}
		f.looked = now
		rs = rs[1:]
	}
	return rs, err
}

// looks reports whether a poll shall compare the newest record.
func (f *feed) looks(now time.Time) bool { return now.Sub(f.looked) >= lookEvery }

// ending reports whether err is one that a follower ends with.
func ending(err error) bool {
	return errors.Is(err, eventlog.ErrDamaged) || errors.Is(err, eventlog.ErrDiverged) || errors.Is(err, eventlog.ErrTrimmed)
}

// took adds what a poll read behind pos.
func (f *feed) took(list []entry) error {
	pos := list[len(list)-1].Offset
	list = records(list)
	last := f.last()
	err := f.s.continues(f.genesis, last.Offset, last.Chain, true, list)
	anew := errors.Is(err, eventlog.ErrTrimmed)
	if anew {
		// Who read ahead of the feed goes on; who is behind is told by Redis.
		err = f.s.continues(f.genesis, list[0].Prev, eventlog.Chain{}, false, list)
	}
	if err != nil {
		return f.s.blame(f.log, last.Offset, last.Chain, err)
	}
	f.pos, f.looked = pos, f.s.world.now()
	if len(list) > 0 {
		f.add(list, anew)
	}
	return nil
}

// compare checks that the log's newest record is the feed's, or a newer one.
func (f *feed) compare(r rueidis.RedisResult) error {
	list, err := entries(r)
	if err != nil {
		return err
	}
	list = records(list)
	last := f.last()
	switch {
	case !f.s.keeps(ruleEnds):
	case len(list) == 0:
		return fmt.Errorf("%w: the stream is gone", eventlog.ErrDiverged)
	case list[0].Offset.Less(last.Offset), list[0].Offset == last.Offset && list[0].Chain != last.Chain, list[0].genesis != f.genesis:
		return fmt.Errorf("%w: it ends at %v, had %v", eventlog.ErrDiverged, list[0].Offset, last.Offset)
	}
	if len(list) > 0 && last.Offset.Less(list[0].Offset) && f.s.keeps(ruleSealBack) {
		// It came in between, or the seal that was read last was rolled back,
		// and the epoch goes on below it.
		f.pos = last.Offset
	}
	return nil
}

// errChain: a record's chain hash is not what it says. Either the record is
// damaged or the one before it is another.
var errChain = errors.New("chain hash does not match")

// continues checks that list stands directly behind the record at prev, whose
// chain hash is chain if it is known.
func (s *Store) continues(genesis [16]byte, prev eventlog.Offset, chain eventlog.Chain, known bool, list []entry) error {
	for i := range list {
		r := &list[i]
		switch {
		case r.genesis != genesis && s.keeps(ruleGenesis):
			return fmt.Errorf("%w: record %v is of another log", eventlog.ErrDiverged, r.Offset)
		case !s.keeps(ruleChained):
		case r.Prev != prev && i > 0:
			return fmt.Errorf("%w: record %v stands behind %v, which is not there", eventlog.ErrDamaged, r.Offset, r.Prev)
		case prev.Less(r.Prev):
			return fmt.Errorf("%w: behind %v the log has %v", eventlog.ErrTrimmed, prev, r.Offset)
		case r.Prev != prev:
			return fmt.Errorf("%w: record %v stands behind %v, read %v", eventlog.ErrDiverged, r.Offset, r.Prev, prev)
		}
		switch {
		case !s.keeps(ruleHashed):
		case known && eventlog.NextChain(chain, &r.Record) != r.Chain && i > 0:
			return fmt.Errorf("%w: record %v: %w", eventlog.ErrDamaged, r.Offset, errChain)
		case known && eventlog.NextChain(chain, &r.Record) != r.Chain:
			return fmt.Errorf("record %v: %w", r.Offset, errChain)
		}
		prev, chain, known = r.Offset, r.Chain, true
	}
	return nil
}

// blame tells which of the two causes of errChain it is; other errors pass.
// The two records are read anew, in one reply: what was read before may be of a
// node that a failover has changed since.
func (s *Store) blame(log eventlog.Name, at eventlog.Offset, chain eventlog.Chain, err error) error {
	if !errors.Is(err, errChain) || ending(err) {
		return err
	}
	rs, readErr := s.read(s.ctx, log, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Xrange().Key(s.key(log)).Start(at.String()).End("+").Count(3).Build()}
	})
	if readErr != nil {
		return readErr
	}
	list, readErr := entries(rs[0])
	list = records(list)
	if readErr == nil && len(list) > 1 && list[0].Offset == at && list[0].Chain == chain && eventlog.NextChain(chain, &list[1].Record) != list[1].Chain {
		return fmt.Errorf("%w: %w", eventlog.ErrDamaged, err)
	}
	return fmt.Errorf("%w: %w", eventlog.ErrDiverged, err)
}
