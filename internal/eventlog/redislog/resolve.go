package redislog

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// resolve finds out what came of e, and appends it again while it can't be
// there: the same id with the same bytes, after a look at the log, and on a
// fresh connection where cause leaves open what is under way on the old one
// (R6). maybe tells that e was sent and may be, or come to be, in the log: then
// only the log's own word ends the doubt.
func (w *writer) resolve(ctx context.Context, e *entry, maybe bool, cause error) error {
	within, cancel := w.s.world.within(ctx, w.s.opts.ResolveMax)
	defer cancel()
	for b := (backoff{world: w.s.world}); ; {
		if cause != nil {
			w.drop(within, cause)
		}
		err := w.again(within, e, &maybe)
		if err == nil {
			w.s.metrics.resolved.WithLabelValues("acknowledged").Inc()
			return nil
		}
		if errors.Is(err, errStops) {
			w.s.metrics.resolved.WithLabelValues(outcomeOf(err)).Inc()
			return err
		}
		cause = err
		if b.wait(within) == nil {
			continue
		}
		if maybe && w.s.keeps(ruleOpen) {
			w.s.metrics.resolved.WithLabelValues("unknown").Inc()
			return unknown(e.Offset, errors.Join(ctx.Err(), cause))
		}
		w.s.metrics.resolved.WithLabelValues("refused").Inc()
		return pushback(e.Offset, errors.Join(ctx.Err(), cause))
	}
}

// drop gives the link up where cause asks for another.
func (w *writer) drop(ctx context.Context, cause error) {
	if f := fateOf(cause); f == below || f == changed || errors.Is(cause, errShort) {
		return // it works
	}
	if w.link != nil {
		w.link.end(cause)
		w.link, w.armed = nil, false
	}
	_ = w.s.look(ctx, w.s.topo.Load())
}

func outcomeOf(err error) string {
	switch {
	case errors.Is(err, eventlog.ErrFenced):
		return "fenced"
	case errors.Is(err, eventlog.ErrMissing):
		return "missing"
	}
	return "unknown"
}

// again looks at the log, and appends e if it is the one that comes next. It
// returns nil if e is acknowledged, errStops if it never will be by this
// writer, and anything else to be called again.
func (w *writer) again(ctx context.Context, e *entry, maybe *bool) error {
	if w.link == nil {
		l, err := w.s.lease(ctx, w.log)
		if err != nil {
			return err
		}
		w.link = l
	}
	there, lost, err := w.inspect(e)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		return w.repair(lost)
	}
	if there {
		if !w.s.keeps(ruleWaitFound) {
			return nil
		}
		return w.link.wait(w.volatile)
	}
	if err = w.put(e); fateOf(err) == unheard {
		*maybe = true
	}
	return err
}

// inspect has the link watch the stream, and judges what it holds.
func (w *writer) inspect(e *entry) (there bool, lost []entry, err error) {
	l, key := w.link, w.key()
	b := l.c.B()
	rs := l.do(b.Unwatch().Build(), l.watch(key),
		b.Xrevrange().Key(key).End("+").Start("-").Count(2).Build(),
		b.Xrevrange().Key(key).End(e.Offset.String()).Start("-").Count(2).Build(),
		b.Xlen().Key(key).Build())
	for _, r := range rs {
		if err := r.Error(); err != nil {
			return false, nil, err
		}
	}
	newest, err := entries(rs[2])
	if err != nil {
		return false, nil, fmt.Errorf("%w: %w", errStops, unknown(e.Offset, err))
	}
	upTo, err := entries(rs[3])
	if err != nil {
		return false, nil, fmt.Errorf("%w: %w", errStops, unknown(e.Offset, err))
	}
	if there, lost, err = w.judge(e, newest, upTo); err != nil {
		return false, nil, fmt.Errorf("%w: %w", errStops, err)
	}
	w.length, err = rs[4].AsInt64()
	w.armed = err == nil && (!there || newest[0].Offset == e.Offset)
	return there, lost, err
}

// judge tells from the log's newest two entries, and the newest two up to e's
// id, whether e is there, or else which of this writer's records are not and
// belong before it. If none is lost, e is what comes next.
func (w *writer) judge(e *entry, newest, upTo []entry) (there bool, lost []entry, err error) {
	if len(newest) > 1 && newest[0].sealed() && newest[0].Offset.Epoch < w.fence.Epoch {
		newest = newest[1:] // the end of the epoch before mine: my fence is lost
	}
	if len(newest) == 0 {
		return false, nil, fmt.Errorf("%w: no stream %s", eventlog.ErrMissing, w.key())
	}
	n := newest[0]
	switch {
	case n.genesis != w.genesis && w.s.keeps(ruleGenesis):
		return false, nil, fmt.Errorf("%w: genesis is %x, was %x", eventlog.ErrMissing, n.genesis, w.genesis)
	case len(upTo) > 0 && upTo[0].Offset == e.Offset:
		if (upTo[0].Nonce != w.nonce || upTo[0].Chain != e.Chain) && w.s.keeps(ruleOwn) {
			return false, nil, fmt.Errorf("%w: record %v is another's", eventlog.ErrFenced, e.Offset)
		}
		return true, nil, nil
	case e.Offset.Less(n.Offset):
		// It is not there, and no longer can be: that is final.
		if !w.s.keeps(ruleFinal) {
			return true, nil, nil
		}
		return false, nil, fmt.Errorf("%w: record %v is not in the log, which has %v", eventlog.ErrFenced, e.Offset, n.Offset)
	case n.Offset == w.last.Offset && n.Chain == w.last.Chain:
		return false, nil, nil
	}
	if lost, ok := w.tail.behind(n.Offset, n.Chain); (ok || len(lost) > 0 && !w.s.keeps(rulePrefix)) && w.s.keeps(ruleRepair) {
		return false, lost, nil
	}
	if n.Nonce != w.nonce {
		return false, nil, fmt.Errorf("%w: record %v is another's: mine were lost from %v on", eventlog.ErrFenced, n.Offset, w.fence)
	}
	return false, nil, unknown(e.Offset, fmt.Errorf("the log ends at %v, want %v: it was rolled back", n.Offset, w.last.Offset))
}

// watched returns the commands that have a link watch a stream and read its
// newest two entries.
func (l *link) watched(key string) rueidis.Commands {
	b := l.c.B()
	return rueidis.Commands{
		b.Unwatch().Build(), l.watch(key),
		b.Xrevrange().Key(key).End("+").Start("-").Count(2).Build(),
	}
}
