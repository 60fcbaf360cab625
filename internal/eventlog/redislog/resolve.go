package redislog

import (
	"context"
	"errors"
	"fmt"

	"github.com/veltrix/cairn/internal/eventlog"
)

// resolve finds out what came of e, and appends it again while it can't be
// there: the same id with the same bytes, on a fresh connection, after a look
// at the log (R6). maybe tells that e was sent and may be, or come to be, in
// the log: then only the log's own word ends the doubt.
func (w *writer) resolve(ctx context.Context, e *entry, maybe bool, cause error) error {
	within, cancel := context.WithTimeout(ctx, w.s.opts.ResolveMax)
	defer cancel()
	for b := (backoff{}); ; {
		if w.link != nil {
			w.link.end(cause)
			w.link = nil
		}
		had := w.s.topo.Load()
		if fateOf(cause) != below && cause != nil {
			_ = w.s.look(within, had)
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
		if maybe {
			w.s.metrics.resolved.WithLabelValues("unknown").Inc()
			return unknown(e.Offset, errors.Join(ctx.Err(), cause))
		}
		w.s.metrics.resolved.WithLabelValues("refused").Inc()
		return pushback(e.Offset, errors.Join(ctx.Err(), cause))
	}
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

// again looks at the log on a fresh connection, and appends e if it is the one
// that comes next. It returns nil if e is acknowledged, errStops if it never
// will be by this writer, and anything else to be called again.
func (w *writer) again(ctx context.Context, e *entry, maybe *bool) error {
	l, err := w.s.lease(ctx, w.log)
	if err != nil {
		return err
	}
	w.link = l
	rs := l.do(ctx,
		l.c.B().Xrevrange().Key(w.key()).End("+").Start("-").Count(1).Build(),
		l.c.B().Xrevrange().Key(w.key()).End(e.Offset.String()).Start("-").Count(2).Build(),
		l.c.B().Xlen().Key(w.key()).Build())
	for _, r := range rs {
		if err := r.Error(); err != nil {
			return err
		}
	}
	newest, err := entries(rs[0])
	if err != nil {
		return fmt.Errorf("%w: %w", errStops, unknown(e.Offset, err))
	}
	upTo, err := entries(rs[1])
	if err != nil {
		return fmt.Errorf("%w: %w", errStops, unknown(e.Offset, err))
	}
	there, err := w.judge(e, newest, upTo)
	if err != nil {
		return fmt.Errorf("%w: %w", errStops, err)
	}
	if there {
		if err := l.wait(ctx, w.volatile); err != nil {
			return fmt.Errorf("%w: %w", errStops, unknown(e.Offset, err))
		}
		w.length, _ = rs[2].AsInt64()
		return nil
	}
	err = w.put(ctx, e)
	switch fateOf(err) {
	case missing:
		return fmt.Errorf("%w: %w: no stream %s", errStops, eventlog.ErrMissing, w.key())
	case unheard:
		*maybe = true
	}
	return err
}

// judge tells from the log's newest entry, and the newest two up to e's id,
// whether e is there. Where it is not, and nil is returned, it is the next.
func (w *writer) judge(e *entry, newest, upTo []entry) (there bool, err error) {
	if len(newest) == 0 {
		return false, fmt.Errorf("%w: no stream %s", eventlog.ErrMissing, w.key())
	}
	n := newest[0]
	switch {
	case n.genesis != w.genesis:
		return false, fmt.Errorf("%w: genesis is %x, was %x", eventlog.ErrMissing, n.genesis, w.genesis)
	case len(upTo) > 0 && upTo[0].Offset == e.Offset:
		if upTo[0].Nonce != w.nonce || upTo[0].Chain != e.Chain {
			return false, fmt.Errorf("%w: record %v is another's", eventlog.ErrFenced, e.Offset)
		}
		return true, w.behindMine(e, upTo)
	case e.Offset.Less(n.Offset):
		// It is not there, and no longer can be: that is final.
		return false, fmt.Errorf("%w: record %v is not in the log, which has %v", eventlog.ErrFenced, e.Offset, n.Offset)
	case n.Offset == w.last.Offset && n.Chain == w.last.Chain:
		return false, nil
	case n.Nonce != w.nonce:
		return false, fmt.Errorf("%w: record %v is another's: mine were lost from %v on", eventlog.ErrFenced, n.Offset, w.fence)
	}
	return false, unknown(e.Offset, fmt.Errorf("the log ends at %v, want %v: it was rolled back", n.Offset, w.last.Offset))
}
