package crowd

import (
	"math/rand/v2"
	"time"

	"github.com/gobwas/ws"
)

// shook says that the handshake is done.
func (l *loop) shook(c handle, m *member) {
	m.phase = phaseLive
	l.live++
	l.stats.Opened++
	if m.is(flagBeen) {
		l.stats.Reconnects++
	}
	m.flags |= flagBeen
	l.stats.Connect.record((l.clock() - m.began) / int64(time.Microsecond))
	if !l.opts.Dialect.cairn() {
		l.become(m, l.table.nothing) // there is no resuming
	}
	s := l.table.states[m.state]
	if s.known {
		m.flags |= flagResuming
	}
	out := l.hearing.out[:0]
	op := ws.OpText
	if l.opts.Dialect.Binary {
		op = ws.OpBinary
	}
	for _, message := range l.tongue.hello(s) {
		out = appendFrame(out, op, message)
	}
	l.hearing.out = out
	if len(out) > 0 {
		if err := l.link.send(c, m, out); err != nil {
			l.lost(c, err)
			return
		}
	}
	if l.opts.Dialect.Name == namePlain {
		l.got(m)
	}
}

// cairn reports whether the dialect is one of ours.
func (d *Dialect) cairn() bool { return d.Name == nameJSON || d.Name == nameProto }

// become moves a member into another state.
func (l *loop) become(m *member, to *state) {
	if from := l.table.states[m.state]; from != to {
		m.state = l.table.enter(to).id
		l.table.leave(from)
	}
}

// got says that a member knows what it watches.
func (l *loop) got(m *member) {
	if m.is(flagReady) {
		return
	}
	m.flags |= flagReady
	m.tries = 0
	m.since = time.Now().UnixMilli() * 1000 // time stamps are of milliseconds, rounded down
	l.ready++
	l.stats.Join.record((l.clock() - m.began) / int64(time.Microsecond))
	if !m.is(flagArrived) {
		m.flags |= flagArrived
		l.arrived++
		l.arrive()
	}
}

// take has a member hear one part of a message.
func (l *loop) take(c handle, m *member, part []byte, hash uint64) {
	st := l.table.hear(m.state, part, hash)
	if st.err != nil {
		l.lost(c, st.err)
		return
	}
	if st.to != st.from {
		m.state = l.table.enter(st.to).id
		l.table.leave(st.from)
	}
	for _, w := range st.wrong {
		if w != wrongGap {
			l.stats.Wrong[w]++
		}
	}
	switch st.kind {
	case kindWelcome:
		m.flags |= flagWelcome | flagFresh
		if st.to.known {
			l.got(m) // what it missed is all that comes
		}
	case kindSnapshot:
		l.stats.Deliveries++
		l.stats.Snapshots++
		l.snapshot(m)
	case kindDelta, kindStandings, kindData:
		l.stats.Deliveries++
		if m.is(flagFresh | flagResuming) {
			l.stats.Resumed++
		}
		m.flags &^= flagFresh | flagResuming
		if at := int64(st.at); at >= m.since && at > 0 && m.is(flagReady) && !m.is(flagStalled) {
			l.stats.Latency.record(l.hearing.now - at)
		}
	case kindDrain:
		l.stats.Drains++
		within := max(1, time.Duration(st.withinMS)*time.Millisecond)
		l.later(c.slot, l.clock()+int64(rand.N(within)), timerMove)
	case kindError:
		l.stats.Errors["server says "+st.fault]++
	case kindJoined:
		l.got(m)
	case kindPing:
		l.stats.Pings++
		l.say(c, m, ws.OpText, part)
	}
	if st.gap {
		l.stats.Gaps++
		if l.opts.Dialect.cairn() {
			l.retry(c, m, l.backoff(m))
		}
	}
}

// snapshot counts a snapshot as what it was to a member.
func (l *loop) snapshot(m *member) {
	switch {
	case m.is(flagFresh | flagResuming):
		l.stats.Restarted++
	case !m.is(flagFresh):
		l.stats.Skips++
	}
	m.flags &^= flagFresh | flagResuming
	l.got(m)
}
