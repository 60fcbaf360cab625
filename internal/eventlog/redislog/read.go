package redislog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// checkedNode returns the node that has a log, fit to hold it.
func (s *Store) checkedNode(ctx context.Context, log eventlog.Name) (*node, error) {
	n, err := s.node(ctx, s.topo.Load().addr(log))
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx, n); err != nil {
		return nil, fmt.Errorf("%s: %w", n.addr, err)
	}
	return n, nil
}

// read sends commands to the node that has a log, over the connection that
// all share, and again for ResolveMax while it can't be reached or has moved.
// The commands must be such that sending them twice does no harm. The results
// have no error but of the kinds below, missing and refused.
func (s *Store) read(ctx context.Context, log eventlog.Name, build func(b rueidis.Builder) rueidis.Commands) ([]rueidis.RedisResult, error) {
	within, cancel := s.world.within(ctx, s.opts.ResolveMax)
	defer cancel()
	for b := (backoff{world: s.world}); ; {
		had := s.topo.Load()
		rs, err := s.readOnce(within, log, build)
		if err == nil {
			return rs, nil
		}
		if f := fateOf(err); f == refused {
			return nil, err
		}
		_ = s.look(within, had)
		if b.wait(within) != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if s.ctx.Err() != nil {
				return nil, eventlog.ErrClosed
			}
			return nil, fmt.Errorf("no answer in %v: %w", s.opts.ResolveMax, err)
		}
	}
}

func (s *Store) readOnce(ctx context.Context, log eventlog.Name, build func(b rueidis.Builder) rueidis.Commands) ([]rueidis.RedisResult, error) {
	n, err := s.checkedNode(ctx, log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.world.within(ctx, s.opts.ReplyMax)
	defer cancel()
	rs := n.client.DoMulti(ctx, build(n.client.B())...)
	for _, r := range rs {
		if f := fateOf(r.Error()); f == unheard || f == elsewhere || f == later {
			return nil, r.Error()
		}
	}
	return rs, nil
}

// ends is what a stream holds at its ends, seals aside.
type ends struct {
	first eventlog.Record // the oldest
	after eventlog.Record // the one behind first; zero if there is none
	last  entry
}

// ends reads them. It returns ErrMissing if there is no stream, or another
// than there was.
func (s *Store) ends(ctx context.Context, log eventlog.Name) (ends, error) {
	var out ends
	rs, err := s.read(ctx, log, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{
			b.Xrevrange().Key(s.key(log)).End("+").Start("-").Count(2).Build(),
			b.Xrange().Key(s.key(log)).Start("-").End("+").Count(3).Build(),
		}
	})
	if err != nil {
		return out, err
	}
	if out.last, err = s.newest(log, rs[0]); err != nil {
		return out, err
	}
	list, err := entries(rs[1])
	if err != nil {
		return out, err
	}
	list = records(list)
	if len(list) == 0 {
		return out, fmt.Errorf("%w: no record at its start", eventlog.ErrDamaged)
	}
	out.first = list[0].Record
	if len(list) > 1 {
		out.after = list[1].Record
	}
	return out, nil
}

// newest returns the newest record out of the reply of XREVRANGE + - COUNT 2.
func (s *Store) newest(log eventlog.Name, r rueidis.RedisResult) (entry, error) {
	list, err := entries(r)
	if err != nil {
		return entry{}, err
	}
	list = records(list)
	if len(list) == 0 {
		return entry{}, fmt.Errorf("%w: no stream %s", eventlog.ErrMissing, s.key(log))
	}
	return list[0], s.pin(log, list[0].genesis)
}

// Status implements [eventlog.Store].
func (s *Store) Status(ctx context.Context, log eventlog.Name) (eventlog.Status, error) {
	if err := s.enter(ctx, log); err != nil {
		return eventlog.Status{}, err
	}
	e, err := s.ends(ctx, log)
	if err != nil {
		return eventlog.Status{}, s.errorf(log, "%w", err)
	}
	st := eventlog.Status{
		Genesis:  e.last.genesis,
		First:    e.first.Offset,
		Base:     e.first.Prev,
		Last:     e.last.Offset,
		Durable:  e.last.Mark,
		Chain:    e.last.Chain,
		From:     e.last.From,
		Volatile: e.last.volatile,
	}
	if e.first.Kind == eventlog.Genesis {
		st.First = e.after.Offset
	}
	return st, nil
}

// Trim implements [eventlog.Store].
func (s *Store) Trim(ctx context.Context, log eventlog.Name, before eventlog.Offset) error {
	if err := s.enter(ctx, log); err != nil {
		return err
	}
	e, err := s.ends(ctx, log)
	if err != nil {
		return s.errorf(log, "trim: %w", err)
	}
	if e.last.Offset.Less(before) {
		before = e.last.Offset
	}
	oldest := e.first
	if oldest.Kind == eventlog.Genesis {
		oldest = e.after // the genesis goes with the first record behind it
	}
	if !oldest.Offset.Less(before) || oldest.Offset.IsZero() {
		return nil
	}
	rs, err := s.read(ctx, log, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Xtrim().Key(s.key(log)).Minid().Exact().Threshold(before.String()).Build()}
	})
	if err == nil {
		err = rs[0].Error()
	}
	if err != nil {
		return s.errorf(log, "trim: %w", err)
	}
	s.mu.Lock()
	f := s.feeds[log]
	s.mu.Unlock()
	if f != nil {
		f.forget(before)
	}
	return nil
}

// Provision implements [eventlog.Store]. It is the only call that creates a
// stream (R1): an XADD of the genesis' id is refused where there is one.
func (s *Store) Provision(ctx context.Context, specs ...eventlog.Spec) error {
	for _, spec := range specs {
		if err := eventlog.ValidName(spec.Name); err != nil {
			return err
		}
	}
	for _, spec := range specs {
		if err := s.enter(ctx, spec.Name); err != nil {
			return err
		}
		if err := s.provision(ctx, spec); err != nil {
			return s.errorf(spec.Name, "provision: %w", err)
		}
	}
	return nil
}

func (s *Store) provision(ctx context.Context, spec eventlog.Spec) error {
	if _, err := s.ends(ctx, spec.Name); err == nil || !errors.Is(err, eventlog.ErrMissing) {
		return err
	}
	s.mu.Lock()
	was, known := s.pins[spec.Name]
	s.mu.Unlock()
	if known {
		return fmt.Errorf("%w: the log with genesis %x is gone; to begin anew: cairn log reset", eventlog.ErrMissing, was)
	}
	e := newGenesis(spec.Volatile)
	within, cancel := s.world.within(ctx, s.opts.ResolveMax)
	defer cancel()
	for b := (backoff{world: s.world}); ; {
		had := s.topo.Load()
		err := s.create(within, spec, &e)
		if err == nil || fateOf(err) == refused {
			return err
		}
		_ = s.look(within, had)
		if b.wait(within) != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// create adds the genesis. Sent again, it is refused where it landed before,
// or another's did.
func (s *Store) create(ctx context.Context, spec eventlog.Spec, e *entry) error {
	l, err := s.lease(ctx, spec.Name)
	if err != nil {
		return err
	}
	err = l.do(s.xadd(l, spec.Name, e, false))[0].Error()
	if f := fateOf(err); f == landed || f == below {
		err = l.wait(spec.Volatile)
	}
	l.end(err)
	return err
}

// newGenesis returns the first record of a new log.
func newGenesis(volatile bool) entry {
	var e entry
	rand.Read(e.genesis[:]) // never fails
	rand.Read(e.Nonce[:])
	e.Offset, e.Kind, e.volatile = eventlog.GenesisOffset, eventlog.Genesis, volatile
	e.Body = e.genesis[:]
	e.Chain = eventlog.NextChain(eventlog.Chain{}, &e.Record)
	return e
}
