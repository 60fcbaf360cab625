package redislog

import (
	"slices"
	"time"
)

// A fault is something that goes wrong. What lasts is mended by itself after a
// while.
type fault struct {
	name string
	do   func(w *sim)
}

// simFaults are all that a run may meet; a seed takes some of them.
var simFaults = []fault{
	{"cut", (*sim).cut},
	{"half-open", (*sim).halfOpen},
	{"crash", (*sim).crash},
	{"pause", (*sim).pause},
	{"clock", (*sim).jump},
	{"node pause", (*sim).pauseNode},
	{"node restart", (*sim).restart},
	{"failover", (*sim).failover},
	{"lag", (*sim).lag},
	{"out of memory", (*sim).fill},
	{"refusal", (*sim).refuse},
	{"lost log", (*sim).loseLog},
}

// chooseFaults takes some kinds of fault, and how often they come.
func (w *sim) chooseFaults() {
	for _, f := range simFaults {
		p := 0.5
		if f.name == "lost log" {
			p = 0.06
		}
		if w.chance(p) {
			w.faults = append(w.faults, f)
			w.fragile = w.fragile || f.name == "lost log"
		}
	}
	w.often = [...]float64{0.005, 0.01, 0.02, 0.05}[w.rng.IntN(4)]
	w.delay = [...]float64{0, 0.01, 0.05, 0.1}[w.rng.IntN(4)]
	w.sqlFaults = w.chance(0.5)
	w.forgetful = w.chance(0.1)
}

// A mend ends what lasts.
type mend struct {
	at time.Duration
	do func()
}

// a returns a time of at most so many milliseconds, mostly a short one.
func (w *sim) a(ms int) time.Duration {
	return time.Duration(1+w.rng.IntN(1+w.rng.IntN(ms))) * time.Millisecond
}

// later has do called after d.
func (w *sim) later(d time.Duration, do func()) {
	w.mends = append(w.mends, mend{w.now + d, do})
}

func (w *sim) someNode() *simNode {
	if w.chance(0.6) {
		return w.primary
	}
	return w.nodes[w.rng.IntN(len(w.nodes))]
}

// someConn returns a connection on which something is under way, or nil.
func (w *sim) someConn() *simConn {
	var busy []*simConn
	for _, c := range w.conns {
		if len(c.queue) > 0 || c.p.batch != nil && c.p.batch.conn == c {
			busy = append(busy, c)
		}
	}
	if len(busy) == 0 {
		return nil
	}
	return busy[w.rng.IntN(len(busy))]
}

// someProc returns a process that lives, or nil.
func (w *sim) someProc() *proc {
	p := w.procs[w.rng.IntN(len(w.procs))]
	if p.dead {
		return nil
	}
	return p
}

// cut ends a connection: commands that were not done are lost, or only their
// replies are.
func (w *sim) cut() {
	if c := w.someConn(); c != nil {
		w.tracef("fault: %s → %s is cut", c.p.name, c.n.Addr)
		c.drop()
	}
}

// halfOpen has requests get through and replies not.
func (w *sim) halfOpen() {
	if c := w.someConn(); c != nil {
		w.tracef("fault: %s ← %s is half-open", c.p.name, c.n.Addr)
		c.hollow = true
	}
}

func (w *sim) crash() {
	p := w.someProc()
	if p == nil {
		return
	}
	w.tracef("fault: %s crashes", p.name)
	p.kill()
	w.procs = slices.DeleteFunc(w.procs, func(q *proc) bool { return q == p })
	n := w.start(p.name, p.body)
	n.wake, n.skew = w.now+w.a(200), p.skew
}

func (w *sim) pause() {
	if p := w.someProc(); p != nil && !p.paused {
		w.tracef("fault: %s is paused", p.name)
		p.paused = true
		w.later(w.a(1000), func() {
			w.tracef("%s goes on", p.name)
			p.paused = false
		})
	}
}

func (w *sim) jump() {
	if p := w.someProc(); p != nil {
		p.skew += time.Duration(w.rng.IntN(4000)-2000) * time.Millisecond
		w.tracef("fault: %s has its clock off by %v", p.name, p.skew)
	}
}

func (w *sim) pauseNode() {
	if n := w.someNode(); !n.paused {
		w.tracef("fault: %s is paused", n.Addr)
		n.paused = true
		w.later(w.a(400), func() {
			w.tracef("%s goes on", n.Addr)
			n.paused = false
		})
	}
}

// restart takes a node down; it comes back with what it had on disk. On a
// primary that acknowledges by itself the newest writes may be missing then.
func (w *sim) restart() {
	n := w.someNode()
	if n.down {
		return
	}
	w.tracef("fault: %s goes down", n.Addr)
	w.takeDown(n)
	w.later(w.a(300), func() {
		lost := 0
		if w.ack == AckPrimary && w.chance(0.5) {
			lost = max(0, min(w.rng.IntN(4), n.Written()-1))
		}
		w.tracef("%s comes back without its last %d writes", n.Addr, lost)
		if n.Primary() == nil {
			if lost > 0 {
				w.lossy, w.rolled = true, true
			}
			n.Restart(lost)
		}
		n.down = false
	})
}

// failover makes a replica primary with what it has. The old one goes on until
// it is told.
func (w *sim) failover() {
	reps := w.primary.Replicas()
	if len(reps) == 0 {
		return
	}
	n := w.node(reps[w.rng.IntN(len(reps))].Addr)
	if n.down || n.paused {
		return
	}
	w.rolled = true
	if w.ack == AckPrimary {
		w.lossy = true // what the old one acknowledges until it knows, too
	}
	w.tracef("fault: %s, which lacks %d writes, takes the place of %s", n.Addr, n.Lag(), w.primary.Addr)
	n.Promote()
	w.primary, n.master = n, n
	for _, m := range w.nodes {
		if m != n {
			w.tellLater(m)
		}
	}
}

// tellLater tells a node of a failover, when it can hear.
func (w *sim) tellLater(m *simNode) {
	w.later(w.a(300), func() {
		switch {
		case m == w.primary:
		case m.down || m.paused:
			w.tellLater(m)
		default:
			w.demote(m)
		}
	})
}

func (w *sim) lag() {
	if n := w.someNode(); !n.lagged {
		w.tracef("fault: %s lags", n.Addr)
		n.lagged = true
		w.later(w.a(500), func() { n.lagged = false })
	}
}

func (w *sim) fill() {
	if n := w.someNode(); !n.OOM {
		w.tracef("fault: %s is out of memory", n.Addr)
		n.OOM = true
		w.later(w.a(200), func() { n.OOM = false })
	}
}

// refuse has a node answer with an error for a while.
func (w *sim) refuse() {
	n := w.someNode()
	if n.Refuse != "" {
		return
	}
	n.Refuse = [...]string{
		"LOADING Redis is loading the dataset in memory",
		"CLUSTERDOWN The cluster is down",
		"TRYAGAIN Multiple keys request during rehashing of slot",
		"ASK 1706 " + w.someNode().Addr,
		"MOVED 1706 " + w.someNode().Addr,
		"READONLY You can't write against a read only replica.",
		"NOREPLICAS Not enough good replicas to write.",
		"MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.",
	}[w.rng.IntN(8)]
	w.tracef("fault: %s answers %.12s…", n.Addr, n.Refuse)
	w.later(w.a(200), func() { n.Refuse = "" })
}

// loseLog loses the log on all nodes, in one of the ways in which that happens.
func (w *sim) loseLog() {
	if _, ok := w.primary.Stream(simKey); !ok || w.lost || w.primary.down || w.primary.Refuse != "" || w.primary.OOM {
		return
	}
	switch w.rng.IntN(4) {
	case 0:
		w.tracef("fault: the log is evicted")
		w.primary.Evict(simKey)
	case 1:
		w.tracef("fault: the log expires")
		c := w.primary.Dial()
		c.Do("PEXPIRE", simKey, "1")
		w.primary.Now += time.Millisecond
		c.Do("EXISTS", simKey)
		w.primary.Now -= time.Millisecond
	default:
		w.tracef("fault: %s restarts empty", w.primary.Addr)
		w.takeDown(w.primary)
		w.primary.Restart(w.primary.Written())
		w.primary.down = false
	}
	if _, ok := w.primary.Stream(simKey); ok {
		return // refused
	}
	if w.chance(0.3) {
		w.tracef("fault: … and is made anew")
		w.remade = true
		w.provision()
	}
	for _, r := range w.primary.Replicas() {
		r.Replicate(r.Lag()) // or it might come back
	}
	w.lost = true
	for _, p := range w.procs {
		p.fresh = p.store == nil || p.store.pins[simLog] == [16]byte{}
	}
}
