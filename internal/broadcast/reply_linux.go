package broadcast

import (
	"context"
	"runtime"
	"sync"
)

// answers are the links of a loop whose clients have outcomes of claims to
// hear. Outcomes come from many goroutines, one by one and often hundreds of
// claims at a time: they gather in their links, and what has gathered is one
// write a client.
type answers struct {
	wake chan struct{} // capacity 1; never closed

	mu   sync.Mutex
	due  []*link // that were given a first reply since they were last flushed
	idle []*link // due's other half: swapped, so that neither grows anew
}

// replies are whole frames that wait for one client. Only those who have some
// hold any memory for them.
type replies struct {
	bytes  []byte
	frames int
}

var repliesPool = sync.Pool{New: func() any { return &replies{bytes: make([]byte, 0, 4<<10)} }}

// keepRepliesMax is the most memory that replies are kept with for others.
const keepRepliesMax = 64 << 10

func (p *replies) release() {
	if cap(p.bytes) > keepRepliesMax {
		return
	}
	p.bytes, p.frames = p.bytes[:0], 0
	repliesPool.Put(p)
}

// reply implements outlet.
func (k *link) reply(payload []byte) {
	k.replyMu.Lock()
	first := k.replies == nil
	if first {
		k.replies = repliesPool.Get().(*replies)
	}
	k.replies.bytes = appendFrame(k.replies.bytes, k.codec.opcode(), payload)
	k.replies.frames++
	k.replyMu.Unlock()
	if first {
		k.loop.answers.put(k)
	}
}

// takeReplies takes what was gathered, or nil.
func (k *link) takeReplies() *replies {
	k.replyMu.Lock()
	defer k.replyMu.Unlock()
	p := k.replies
	k.replies = nil
	return p
}

// put notes that a link has replies.
func (a *answers) put(k *link) {
	a.mu.Lock()
	a.due = append(a.due, k)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default: // it will wake already, and take all there is
	}
}

// take takes the links that have replies. They are good until the next take.
func (a *answers) take() []*link {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.idle[:cap(a.idle)])
	due := a.due
	a.due, a.idle = a.idle[:0], due
	return due
}

// reply writes replies until ctx ends. It is a goroutine, not a turn of the
// loop's: whoever answers wakes it without a system call, and it runs when they
// have answered all they can.
func (l *loop) reply(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.answers.wake:
		}
		// Whoever else can run now may have more to answer. Where nobody can,
		// this takes no time.
		runtime.Gosched()
		for _, k := range l.answers.take() {
			k.with(func(l *loop, r *record) { l.flush(k, r) })
		}
	}
}

// flushReplies sends what has gathered for a client, before it is sent
// something else. l.mu is held.
func (l *loop) flushReplies(c handle, r *record) {
	if s := *l.sessionAt(c.slot); s != nil {
		l.flush(s.out.(*link), r)
	}
}

// flush sends the replies of a link. l.mu is held.
func (l *loop) flush(k *link, r *record) {
	p := k.takeReplies()
	if p == nil {
		return
	}
	switch {
	case r.flags&(flagBye|flagEnded) != 0:
	case r.flags&flagStalled != 0:
		if !l.stalls[k.slot].keep(p.bytes, p.frames, l.hub.ownMax()) {
			l.say(k.handle, r, statusTooSlow, "too slow", endSlow, errTooSlow)
		}
		return // what it keeps is not another's
	default:
		if l.sendNow(k.handle, r, p.bytes, p.frames); r.flags&flagStalled != 0 {
			return
		}
	}
	p.release()
}
