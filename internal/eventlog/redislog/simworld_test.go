package redislog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog/redissim"
)

// simLog is the one log of a simulation.
const simLog = eventlog.Name("s00")

var simKey = Key("cairn", simLog)

// A sim is a small world in which writers, followers and ledgers run the real
// code against simulated servers. One scheduler decides, from a seed alone,
// what happens next: who goes on, which command a server does, when time
// passes and what goes wrong. The same seed gives the same run.
type sim struct {
	rng     *rand.Rand
	now     time.Duration
	trace   bool
	lines   []string
	broken  rule   // what the stores do not keep
	without string // what the processes do not keep: one of simWithout

	// What the seed makes of the world.
	url      string
	cluster  bool
	bell     bool
	replicas int
	ack      Ack
	faults   []fault // those that happen in this run
	often    float64 // how often
	delay    float64 // how often time passes though something could be done

	nodes   []*simNode
	primary *simNode // whom the Cluster elected
	conns   []*simConn
	procs   []*proc
	ready   []func() // scratch of step
	mends   []mend
	warm    int // steps until faults may come

	calm   bool // no more faults; all is to end well
	failed string

	record
}

// A simNode is a server and what is wrong with it.
type simNode struct {
	*redissim.Server
	id     string
	down   bool
	paused bool
	lagged bool     // its replication link is down
	master *simNode // who it believes has the slots
}

func (w *sim) tracef(format string, args ...any) {
	if w.trace {
		w.lines = append(w.lines, fmt.Sprintf("%9.3f  ", w.now.Seconds()*1000)+fmt.Sprintf(format, args...))
	}
}

// failf notes what must not be. The first is what counts.
func (w *sim) failf(format string, args ...any) {
	if w.failed == "" {
		w.failed = fmt.Sprintf(format, args...)
		w.tracef("VIOLATION: %s", w.failed)
	}
}

func (w *sim) chance(p float64) bool { return w.rng.Float64() < p }

func (w *sim) node(addr string) *simNode {
	i := slices.IndexFunc(w.nodes, func(n *simNode) bool { return n.Addr == addr })
	return w.nodes[i]
}

// newSim makes a world out of a seed.
func newSim(seed uint64, trace bool) *sim {
	w := &sim{rng: rand.New(rand.NewPCG(seed, 0x5eed)), trace: trace, now: time.Millisecond, bell: seed%6 == 5} // no mutant is caught by such a seed: theirs stay
	w.record.init()
	w.cluster = w.chance(0.75)
	if w.cluster {
		w.replicas = w.rng.IntN(3)
	}
	w.ack = AckPrimary
	if w.replicas > 0 && w.chance(0.6) {
		w.ack = AckReplicas
	}
	for i := range 1 + w.replicas {
		n := &simNode{Server: redissim.New(fmt.Sprintf("10.0.0.%d:6379", i+1)), id: strings.Repeat(strconv.Itoa(i+1), 40)}
		n.Info["redis_version"], n.Info["maxmemory_policy"], n.Info["aof_enabled"] = "7.0.15", "noeviction", "1"
		n.Info["cluster_enabled"] = map[bool]string{false: "0", true: "1"}[w.cluster]
		n.Config["cluster-node-timeout"], n.Config["min-replicas-to-write"] = "2000", "1"
		n.Slot = func(string, bool) string { return w.slot(n) }
		n.ClusterInfo = func() string { return w.clusterNodes(n) }
		n.Now = w.now
		w.nodes = append(w.nodes, n)
		n.master = w.nodes[0]
		if i > 0 {
			n.Follow(w.nodes[0].Server)
		}
	}
	w.primary = w.nodes[0]
	w.url = "redis://" + w.nodes[0].Addr
	if w.cluster {
		w.url = "redis://" + w.nodes[0].Addr
		for _, n := range w.nodes[1:] {
			w.url += "," + n.Addr
		}
		w.url += "?cluster"
	}
	w.chooseFaults()
	return w
}

// slot says what n answers about the log's slot: "" where it has it.
func (w *sim) slot(n *simNode) string {
	if n.master == n {
		return ""
	}
	return "MOVED 0 " + n.master.Addr
}

// clusterNodes is CLUSTER NODES as n sees it.
func (w *sim) clusterNodes(n *simNode) string {
	var b strings.Builder
	for _, m := range w.nodes {
		flags, of, slots := "slave", n.master.id, ""
		switch {
		case m == n.master:
			flags, of, slots = "master", "-", " 0-16383"
		case m.master == m:
			flags, of = "master", "-" // was one before
		}
		fmt.Fprintf(&b, "%s %s@16379 %s %s 0 0 1 connected%s\n", m.id, m.Addr, flags, of, slots)
	}
	return b.String()
}

// step lets one thing happen. It reports false if nothing ever will.
func (w *sim) step() bool {
	if w.warm--; w.warm < 0 && !w.calm && w.chance(w.often) && len(w.faults) > 0 {
		w.faults[w.rng.IntN(len(w.faults))].do(w)
		return true
	}
	w.ready = w.ready[:0]
	next := time.Duration(0)
	soonest := func(at time.Duration) {
		if at > w.now && (next == 0 || at < next) {
			next = at
		}
	}
	for _, m := range w.mends {
		soonest(m.at)
	}
	for _, p := range w.procs {
		if p.dead || p.paused {
			continue
		}
		b := p.batch
		switch {
		case b != nil && (b.lost || b.conn.cut || b.done() && !b.conn.hollow), p.wake != 0 && p.wake <= w.now:
			w.ready = append(w.ready, p.run)
		default:
			soonest(p.wake)
		}
	}
	w.conns = slices.DeleteFunc(w.conns, (*simConn).over)
	for _, c := range w.conns {
		if len(c.queue) == 0 || c.n.paused || c.n.down {
			continue
		}
		if at, waits := c.waits(); waits {
			soonest(at)
			continue
		}
		w.ready = append(w.ready, c.serve)
	}
	for _, n := range w.nodes {
		if n.Primary() != nil && !n.down && !n.lagged && n.Lag() > 0 {
			w.ready = append(w.ready, func() { n.Replicate(1 + w.rng.IntN(n.Lag())) })
		}
	}
	if len(w.ready) == 0 || next != 0 && w.chance(w.delay) {
		if next == 0 {
			return false
		}
		w.pass(next)
		return true
	}
	w.ready[w.rng.IntN(len(w.ready))]()
	return true
}

// pass lets time pass.
func (w *sim) pass(now time.Duration) {
	w.now = now
	for _, n := range w.nodes {
		n.Now = now
	}
	for i := 0; i < len(w.mends); i++ {
		if m := w.mends[i]; m.at <= now {
			w.mends = slices.Delete(w.mends, i, i+1)
			i--
			m.do()
		}
	}
}

// over reports whether nothing comes of c any more.
func (c *simConn) over() bool {
	if c.cut || c.closed && len(c.queue) == 0 {
		c.server.Close()
		return true
	}
	return false
}

// waits reports whether c's next command is a WAIT that has to, and until when.
func (c *simConn) waits() (time.Duration, bool) {
	b := c.queue[0]
	cmd := b.cmds[len(b.replies)]
	if cmd[0] != "WAIT" || c.n.Primary() != nil {
		return 0, false
	}
	n, _ := strconv.Atoi(cmd[1])
	ms, _ := strconv.Atoi(cmd[2])
	if !c.server.Short(n) {
		return 0, false
	}
	if b.since == 0 {
		b.since = c.p.w.now
	}
	at := b.since + time.Duration(ms)*time.Millisecond
	return at, at > c.p.w.now
}

// serve lets c's node do its next command, or all of a batch.
func (c *simConn) serve() {
	w := c.p.w
	if c.closed && w.chance(0.3) { // the server sees that the client has gone
		c.drop()
		return
	}
	b := c.queue[0]
	one := w.chance(0.3)
	for !b.done() {
		if _, waits := c.waits(); waits {
			return
		}
		cmd := b.cmds[len(b.replies)]
		if cmd[0] == "XADD" && w.fragile && !w.calm && w.chance(0.005) {
			if w.loseLog(); c.cut {
				return
			}
		}
		w.before(c, cmd)
		r := c.server.Do(cmd...)
		b.replies = append(b.replies, r)
		if w.trace && cmd[0] != "XRANGE" && cmd[0] != "XREVRANGE" && cmd[0] != "INFO" {
			w.tracef("  %s does %s for %s: %s", c.n.Addr, cmd[0], c.p.name, short(r))
		}
		w.after(c, cmd, r)
		if one && !b.done() {
			return
		}
	}
	c.queue = c.queue[1:]
	w.pass(w.now + 50*time.Microsecond) // or two that race would do so for ever
}

func short(r redissim.Reply) string {
	switch r.Kind {
	case redissim.Int:
		return strconv.FormatInt(r.Int, 10)
	case redissim.Array:
		var all []string
		for _, e := range r.List {
			all = append(all, short(e))
		}
		return "[" + strings.Join(all, " ") + "]"
	case redissim.Nil:
		return "nil"
	}
	return fmt.Sprintf("%.60s", r.Text)
}

// drop ends the connection: what was not done is lost.
func (c *simConn) drop() {
	for _, b := range c.queue {
		b.lost = true
	}
	c.queue, c.cut = nil, true
}

// takeDown stops a node: connections break.
func (w *sim) takeDown(n *simNode) {
	n.down = true
	for _, c := range w.conns {
		if c.n == n {
			if c.p.batch != nil && c.p.batch.conn == c {
				c.p.batch.lost = true
			}
			c.drop()
		}
	}
}

// settle ends all that is wrong.
func (w *sim) settle() {
	w.calm, w.delay, w.mends = true, 0, nil
	w.tracef("calm")
	for _, n := range w.nodes {
		n.down, n.paused, n.lagged = false, false, false
		n.OOM, n.Refuse, n.MinReplicas = false, "", 0
		n.Slot = func(string, bool) string { return w.slot(n) }
		if n != w.primary {
			w.demote(n)
		}
	}
	for _, p := range w.procs {
		p.paused = false
	}
	for _, c := range w.conns {
		if c.hollow {
			c.drop()
		}
	}
}

// demote tells n who the primary is.
func (w *sim) demote(n *simNode) {
	if n.master != w.primary || n.Primary() != w.primary.Server {
		w.tracef("%s follows %s", n.Addr, w.primary.Addr)
		n.master = w.primary
		n.Follow(w.primary.Server)
	}
}
