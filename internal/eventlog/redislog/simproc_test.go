package redislog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/redis/rueidis"
)

// A proc is a simulated process: a coroutine that runs the real code with a
// store of its own, and gives way whenever it waits for a reply or for time.
// Between two of its waits nothing else happens anywhere.
type proc struct {
	w    *sim
	name string
	body func(p *proc)

	next func() (struct{}, bool)
	stop func()
	give func(struct{}) bool

	batch  *batch        // the commands whose replies it waits for, or nil
	wake   time.Duration // when it goes on by itself; never if zero
	skew   time.Duration // of its clock
	paused bool          // SIGSTOP
	dead   bool          // crashed, or done
	store  *Store        // nil until it has one
	fresh  bool          // it had not seen the log that was lost, and may take another for it

	looked  time.Duration // when it last asked for the topology
	clients map[string]*simClient
	timers  []*simTimer
}

// errCrashed unwinds a coroutine whose process is killed.
var errCrashed = errors.New("crashed")

// start begins a process, or begins it anew.
func (w *sim) start(name string, body func(p *proc)) *proc {
	p := &proc{w: w, fresh: w.lost, name: name, body: body, clients: make(map[string]*simClient), wake: w.now}
	p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		p.give = yield
		defer func() {
			p.dead = true
			if r := recover(); r != nil && r != errCrashed {
				panic(r)
			}
		}()
		body(p)
	})
	w.procs = append(w.procs, p)
	return p
}

// run lets p go on until it waits again.
func (p *proc) run() {
	p.batch, p.wake = nil, 0
	if _, ok := p.next(); !ok {
		p.dead = true
	}
}

// kill ends p at once. What it had sent stays under way.
func (p *proc) kill() {
	p.dead = true
	p.stop()
	for _, c := range p.w.conns {
		if c.p == p {
			c.closed = true
		}
	}
}

// wait gives way until a reply to b has come, or until the given time.
func (p *proc) wait(b *batch, until time.Duration) {
	p.batch, p.wake = b, until
	if !p.give(struct{}{}) {
		panic(errCrashed)
	}
}

// idle passes time as a process does whose goroutines all wait: its timers run.
func (p *proc) idle(d time.Duration) {
	for end := p.w.now + d; ; {
		var first *simTimer
		for _, t := range p.timers {
			if t.at != 0 && t.at <= end && (first == nil || t.at < first.at) {
				first = t
			}
		}
		if first == nil {
			if p.w.now < end {
				p.wait(nil, end)
			}
			return
		}
		if p.w.now < first.at {
			p.wait(nil, first.at)
		}
		if first.at != 0 {
			first.at = 0
			first.f()
		}
	}
}

// A simTimer runs when its process is idle: it would wait for the writer's
// mutex otherwise.
type simTimer struct {
	p  *proc
	at time.Duration
	f  func()
}

// Stop implements timer.
func (t *simTimer) Stop() bool { was := t.at; t.at = 0; return was != 0 }

// Reset implements timer.
func (t *simTimer) Reset(d time.Duration) bool {
	was := t.at
	t.at = max(t.p.w.now+d, 1)
	return was != 0
}

// now implements world.
func (p *proc) now() time.Time { return simStart.Add(p.w.now + p.skew) }

var simStart = time.Unix(1e9, 0)

// simCtx is a context whose time is the simulation's.
type simCtx struct {
	context.Context
	w     *sim
	until time.Duration
}

// Err implements context.Context.
func (c simCtx) Err() error {
	if err := c.Context.Err(); err != nil {
		return err
	}
	if c.w.now >= c.until {
		return context.DeadlineExceeded
	}
	return nil
}

// untilOf returns when ctx ends, or zero.
func untilOf(ctx context.Context) time.Duration {
	if c, ok := ctx.(simCtx); ok {
		return c.until
	}
	return 0
}

// within implements world.
func (p *proc) within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	until := p.w.now + d
	if u := untilOf(ctx); u != 0 && u < until {
		until = u
	}
	return simCtx{ctx, p.w, until}, func() {}
}

// sleep implements world.
func (p *proc) sleep(ctx context.Context, d time.Duration) error {
	until := p.w.now + d
	if u := untilOf(ctx); u != 0 && u < until {
		until = u
	}
	if p.w.now < until {
		p.wait(nil, until)
	}
	return ctx.Err()
}

// after implements world.
func (p *proc) after(d time.Duration, f func()) timer {
	t := &simTimer{p: p, f: f}
	t.Reset(d)
	p.timers = append(p.timers, t)
	return t
}

// client implements world.
func (p *proc) client(o rueidis.ClientOption) (rueidis.Client, error) {
	addr := o.InitAddress[0]
	if c := p.clients[addr]; c != nil {
		return c, nil
	}
	if p.w.node(addr).down {
		p.wait(nil, p.w.now+time.Millisecond)
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	c := &simClient{p: p, addr: addr}
	p.clients[addr] = c
	return c, nil
}

// open returns a store of p, connected, which starts nothing.
func (p *proc) open() *Store {
	for {
		s, err := newStore(context.Background(), p.w.url, p.w.options(), p)
		if err == nil {
			s.broken = p.w.broken
			p.store = s
			return s
		}
		p.w.tracef("%s: no store: %v", p.name, err)
		p.wait(nil, p.w.now+50*time.Millisecond)
	}
}

func (w *sim) options() Options {
	return Options{
		Ack: w.ack, Replicas: w.replicas, Cluster: w.cluster,
		ReplyMax: 40 * time.Millisecond, ResolveMax: 300 * time.Millisecond,
		MarkAfter: 30 * time.Millisecond, PollEvery: 10 * time.Millisecond, Bell: w.bell,
		RingBytesMax: 1 << 10,
		Log:          slog.New(slog.DiscardHandler),
	}
}
