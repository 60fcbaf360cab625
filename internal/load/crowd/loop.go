package crowd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/veltrix/cairn"
)

// A loop is the part of a crowd that one process carries: one goroutine that
// connects, reads, folds and counts for all its members.
type loop struct {
	// Static after newLoop.
	opts    Options
	number  int // of the worker
	targets []target
	start   time.Time
	link    link
	ended   sync.WaitGroup

	// Owned by run.
	slabs   [][]member
	members uint32
	table   *table
	tongue  tongue
	hearing hearing
	timers  timers
	stats   *Stats
	window  time.Time // when stats began
	live    int       // members in phaseLive
	ready   int       // with flagReady
	stalled int
	arrived uint32 // members with flagArrived
	waiters []waiter
	closing bool

	mu   sync.Mutex
	todo []func() // for run; nil when it takes no more
}

// A target is a server to connect to.
type target struct {
	addr    netip.AddrPort
	request []byte // of the handshake
}

// A waiter waits until so many members have arrived.
type waiter struct {
	arrived uint32
	done    chan struct{} // closed by the loop
}

var errClosed = errors.New("crowd: closed")

// newLoop starts the loop of a worker with that number, or, for 0, of a process
// that carries a crowd alone.
func newLoop(opts Options, number int) (*loop, error) {
	regions := make([]cairn.Cell, len(opts.Regions))
	for i, s := range opts.Regions {
		c, err := cairn.ParseCell(s)
		if err != nil {
			return nil, &cairn.FieldError{Field: fmt.Sprintf("Regions[%d]", i), Msg: err.Error()}
		}
		regions[i] = c
	}
	t, err := newTongue(&opts)
	if err != nil {
		return nil, err
	}
	l := &loop{opts: opts, number: number, start: time.Now(), table: newTable(t, regions), tongue: t, stats: NewStats(), window: time.Now(), todo: []func(){}}
	l.hearing = newHearing()
	for _, s := range opts.Targets {
		tg, err := l.hearing.newTarget(l, s)
		if err != nil {
			return nil, err
		}
		l.targets = append(l.targets, tg)
	}
	if l.link, err = newLink(l); err != nil {
		return nil, err
	}
	l.ended.Go(l.run)
	return l, nil
}

// clock returns nanoseconds since the loop began.
func (l *loop) clock() int64 { return int64(time.Since(l.start)) }

func (l *loop) run() {
	defer l.link.close()
	for !l.closing {
		wait := time.Hour
		if l.fire() {
			wait = 0
		} else if len(l.timers) > 0 {
			wait = max(0, time.Duration(l.timers[0].due-l.clock()))
		}
		l.link.poll(wait)
		l.mu.Lock()
		todo := l.todo
		l.todo = todo[len(todo):]
		l.mu.Unlock()
		for _, f := range todo {
			f()
		}
	}
	for slot := range l.members {
		m := l.at(slot)
		if m.phase == phaseDialing || m.phase == phaseShaking || m.phase == phaseLive {
			l.drop(handle{slot, m.gen}, m, true)
		}
	}
}

// do has the loop's goroutine call f and waits for it.
func (l *loop) do(f func()) error {
	done := make(chan struct{})
	l.mu.Lock()
	if l.todo == nil {
		l.mu.Unlock()
		return errClosed
	}
	l.todo = append(l.todo, func() { f(); close(done) })
	l.mu.Unlock()
	l.link.wake()
	<-done
	return nil
}

func (l *loop) close() error {
	err := l.do(func() {
		l.closing = true
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, f := range l.todo {
			defer f()
		}
		l.todo = nil
	})
	l.ended.Wait()
	if errors.Is(err, errClosed) {
		return nil
	}
	return err
}

// grow adds n members and waits until all that there are were ready once.
func (l *loop) grow(ctx context.Context, n int, perSecond float64) error {
	done := make(chan struct{})
	err := l.do(func() {
		now := l.clock()
		for i := range n {
			slot := l.join()
			due := now
			if perSecond > 0 {
				due += int64(float64(i) / perSecond * float64(time.Second))
			}
			l.later(slot, due, timerDial)
		}
		l.waiters = append(l.waiters, waiter{l.members, done})
		l.arrive()
	})
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// arrive tells those who waited for it.
func (l *loop) arrive() {
	l.waiters = slices.DeleteFunc(l.waiters, func(w waiter) bool {
		if l.arrived < w.arrived {
			return false
		}
		close(w.done)
		return true
	})
}

// stall has n members that are connected stop reading, those with a small
// buffer first, and returns how many there were.
func (l *loop) stall(n int) (stalled int, err error) {
	err = l.do(func() {
		for _, small := range []flags{flagSmall, 0} {
			for slot := range l.members {
				m := l.at(slot)
				if stalled < n && m.phase == phaseLive && m.flags&(flagStalled|flagSmall) == small {
					m.flags |= flagStalled
					l.stalled++
					stalled++
				}
			}
		}
	})
	return stalled, err
}

// resume has all who stalled read again.
func (l *loop) resume() error {
	return l.do(func() {
		now := time.Now().UnixMilli()*1000 + 1000 // time stamps are of milliseconds, rounded down
		for slot := range l.members {
			m := l.at(slot)
			if !m.is(flagStalled) {
				continue
			}
			m.since = now
			l.stalled--
			if m.phase == phaseAway {
				l.wait(slot, m, 0)
			} else {
				l.link.unpause(handle{slot, m.gen}, m)
			}
			m.flags &^= flagStalled | flagSmall
		}
	})
}

// dropAll cuts every connection. They come back by themselves.
func (l *loop) dropAll() error {
	return l.do(func() {
		for slot := range l.members {
			if m := l.at(slot); m.phase == phaseLive {
				l.drop(handle{slot, m.gen}, m, true)
				l.wait(slot, m, l.backoff(m))
			}
		}
	})
}

// read returns what happened since the last read, and where members stand.
func (l *loop) read() (s *Stats, err error) {
	err = l.do(func() {
		now := time.Now()
		s = l.stats
		s.Seconds = now.Sub(l.window).Seconds()
		l.stats, l.window = NewStats(), now
		s.Connections, s.Connected, s.Ready, s.Stalled = int(l.members), l.live, l.ready, l.stalled
		s.States = l.states()
	})
	return s, err
}

// states returns how many of those who are ready and read know what.
func (l *loop) states() map[string]int {
	sums := map[uint64]int{}
	if l.ready == int(l.members) && l.stalled == 0 { // as mostly; members need not be looked at
		for _, s := range l.table.states {
			sums[s.sum] += s.refs
		}
		sums[0]-- // the table's own on what is known at first
	} else {
		for slot := range l.members {
			if m := l.at(slot); m.is(flagReady) && !m.is(flagStalled) {
				sums[l.table.states[m.state].sum]++
			}
		}
	}
	named := make(map[string]int, len(sums))
	for sum, n := range sums {
		if n > 0 {
			named[fmt.Sprintf("%016x", sum)] = n
		}
	}
	return named
}

// backoff returns how long to wait before the next try: a random part of what
// doubles with every one, so that those who were cut together do not come back
// together.
func (l *loop) backoff(m *member) time.Duration {
	ceiling := l.opts.BackoffCap
	if d := l.opts.Backoff << m.tries; d < ceiling && m.tries < 32 {
		ceiling = d
		m.tries++
	}
	return rand.N(ceiling)
}

// wait has a member without a connection connect later.
func (l *loop) wait(slot uint32, m *member, d time.Duration) {
	m.phase = phaseWaiting
	l.later(slot, l.clock()+int64(d), timerDial)
}

func (l *loop) dial(slot uint32, m *member) {
	c := handle{slot, m.gen}
	m.began = l.clock()
	m.phase = phaseDialing
	if err := l.link.dial(c, m, l.targets[m.target].addr, m.is(flagSmall)); err != nil {
		m.phase = phaseWaiting
		l.fail(err)
		l.wait(slot, m, l.backoff(m))
		return
	}
	l.later(slot, m.began+int64(shakeWithin), timerShake)
}

func (l *loop) fail(err error) { l.stats.Errors[kindOf(err)]++ }

// opened says that TCP is connected.
func (l *loop) opened(c handle) {
	m := l.current(c)
	if m == nil || m.phase != phaseDialing {
		return
	}
	m.phase = phaseShaking
	if err := l.link.send(c, m, l.targets[m.target].request); err != nil {
		l.lost(c, err)
	}
}

// lost says that a connection ended.
func (l *loop) lost(c handle, err error) {
	m := l.current(c)
	if m == nil {
		return
	}
	l.fail(err)
	if errors.Is(err, syscall.ECONNREFUSED) {
		l.elsewhere(m)
	}
	l.retry(c, m, l.backoff(m))
}

// elsewhere has a member go to another server, if there is one.
func (l *loop) elsewhere(m *member) {
	if n := len(l.targets); n > 1 {
		m.target = uint16((int(m.target) + 1 + rand.IntN(n-1)) % n)
	}
}

// retry hangs up and connects again later.
func (l *loop) retry(c handle, m *member, d time.Duration) {
	if m.phase == phaseLive && !m.is(flagStalled) {
		l.stats.Lost++
	}
	l.drop(c, m, false)
	if m.is(flagStalled) {
		m.phase = phaseAway
		return
	}
	l.wait(c.slot, m, d)
}

// drop hangs up. The member's handle is stale from then on.
func (l *loop) drop(c handle, m *member, reset bool) {
	if m.phase == phaseLive {
		l.live--
	}
	if m.is(flagReady) {
		l.ready--
	}
	l.link.hangUp(c, m, reset)
	l.hearing.forget(c.slot, m)
	m.flags &^= flagReady | flagWelcome | flagFresh | flagResuming
	m.phase = phaseWaiting
	m.gen++
}
