package redislog

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// tailBytesMax bounds the records that a writer keeps in memory, so what a
// failover may lose and the writer can still put back.
const tailBytesMax = 1 << 20

// recordBytes is about what a record takes beside its body.
const recordBytes = 200

// A tail is the newest records of a writer, its fence first, as they were
// appended.
type tail struct {
	before eventlog.Chain // of the record before the first
	list   []entry        // each directly behind the one before; bodies are its own
	bytes  int
}

// add adds e, whose chain goes on from before, and drops the oldest records
// over the bound.
func (t *tail) add(before eventlog.Chain, e *entry) {
	if len(t.list) == 0 {
		t.before = before
	}
	own := *e
	own.Body = bytes.Clone(e.Body)
	t.list = append(t.list, own)
	t.bytes += len(own.Body) + recordBytes
	for len(t.list) > 1 && t.bytes > tailBytesMax {
		t.before = t.list[0].Chain
		t.bytes -= len(t.list[0].Body) + recordBytes
		t.list[0] = entry{} // for the collector
		t.list = t.list[1:]
	}
}

// behind returns the records that stand behind the given one, if that is where
// the tail goes on from.
func (t *tail) behind(at eventlog.Offset, chain eventlog.Chain) ([]entry, bool) {
	i := slices.IndexFunc(t.list, func(e entry) bool { return e.Prev == at })
	if i < 0 {
		return nil, false
	}
	before := t.before
	if i > 0 {
		before = t.list[i-1].Chain
	}
	return t.list[i:], before == chain
}

// repair appends again what a failover lost, with the ids and bytes that it
// had, in one transaction: it is done whole behind the record that the link
// was armed for, or not at all (R5). What came of it, the next look tells.
func (w *writer) repair(lost []entry) error {
	l := w.link
	cmds := make(rueidis.Commands, 0, len(lost)+2)
	cmds = append(cmds, l.c.B().Multi().Build())
	for i := range lost {
		cmds = append(cmds, w.s.xadd(l, w.log, &lost[i], true))
	}
	cmds = append(cmds, l.c.B().Exec().Build())
	w.armed = false
	rs := l.do(cmds...)
	for i := range lost {
		if err := executed([]rueidis.RedisResult{rs[1+i], rs[len(rs)-1]}); err != nil {
			return err
		}
	}
	w.s.metrics.repaired.Add(float64(len(lost)))
	w.s.opts.Log.Warn("put back what a failover had lost", "log", w.log,
		"from", lost[0].Offset, "to", lost[len(lost)-1].Offset, "node", l.n.addr)
	return errChanged // by this writer: look again
}

// askEvery is how often a writer asks for what replicas have, where its
// appends do not wait for them; and askAgain after they had less than all.
const (
	askEvery = 50 * time.Millisecond
	askAgain = time.Second
)

// asks reports whether the next append is to ask replicas whether they have
// it, though it is acknowledged without.
func (w *writer) asks() bool {
	l := w.link
	return !w.volatile && !l.waits(w.volatile) && w.s.replicasOf(l.n) > 0 && !w.s.world.now().Before(w.askAt)
}

// heard notes what the replicas said when asked for all up to o.
func (w *writer) heard(o eventlog.Offset, short error) {
	if short != nil {
		w.askAt = w.s.world.now().Add(askAgain)
		return
	}
	w.askAt, w.safe = w.s.world.now().Add(askEvery), o
}

// settle has the replicas say whether they have all, where no append waited
// for that. The caller holds mu.
func (w *writer) settle(ctx context.Context) {
	if w.link == nil || w.safe == w.last.Offset || !w.asks() {
		return
	}
	err := w.link.waited(w.link.do(w.link.ask())[0])
	w.heard(w.last.Offset, err)
	if err != nil && !errors.Is(err, errShort) && w.s.keeps(ruleGiveUp) {
		w.drop(ctx, err) // of a node that is no primary any more, for one
	}
}
