package crowd

import "container/heap"

// A timer is something that a member does later, unless its generation is over
// by then.
type timer struct {
	due    int64 // ns of the loop's clock
	member handle
	kind   timerKind
}

type timerKind uint8

const (
	timerDial  timerKind = iota // connect
	timerShake                  // the handshake took too long
	timerMove                   // the server asked to go elsewhere
)

// timers are ordered by when they are due.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due < t[j].due }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }

func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	*t = (*t)[:last]
	return x
}

func (l *loop) later(slot uint32, due int64, kind timerKind) {
	heap.Push(&l.timers, timer{due, handle{slot, l.at(slot).gen}, kind})
}

// timersAtOnce bounds how many members act before sockets are read again.
const timersAtOnce = 32

// fire has those act whose time has come, and reports whether more wait.
func (l *loop) fire() bool {
	for range timersAtOnce {
		if len(l.timers) == 0 || l.timers[0].due > l.clock() {
			return false
		}
		t := heap.Pop(&l.timers).(timer)
		m := l.current(t.member)
		if m == nil {
			continue
		}
		switch {
		case t.kind == timerDial && m.phase == phaseWaiting:
			l.dial(t.member.slot, m)
		case t.kind == timerShake && (m.phase == phaseDialing || m.phase == phaseShaking):
			l.lost(t.member, errSlowHandshake)
		case t.kind == timerMove && m.phase == phaseLive:
			l.drop(t.member, m, false)
			l.elsewhere(m)
			l.wait(t.member.slot, m, 0)
		}
	}
	return true
}
