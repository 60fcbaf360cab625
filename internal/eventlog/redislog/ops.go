package redislog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/veltrix/cairn/internal/eventlog"
)

// ReadConnections is how many connections to one node a Store has for all that
// it reads, however many logs it follows. Each open Writer has one more, to
// the node that has its log, and another while it resolves an outcome.
const ReadConnections = 1

// MaxClients returns the least maxclients of the primaries: how many
// connections, those of others included, the smallest of them takes.
func (s *Store) MaxClients(ctx context.Context) (int, error) {
	least := math.MaxInt
	for _, addr := range s.topo.Load().primaries() {
		n, err := s.node(ctx, addr)
		if err != nil {
			return 0, fmt.Errorf("redislog: %w", err)
		}
		v, err := n.config(ctx, s.opts.ReplyMax, "maxclients")
		if err != nil {
			return 0, fmt.Errorf("redislog: %s: %w", addr, err)
		}
		max, err := strconv.Atoi(v)
		if err != nil {
			return 0, fmt.Errorf("redislog: %s: maxclients is %.20q", addr, v)
		}
		least = min(least, max)
	}
	return least, nil
}

// A Detail is what an operator may want to know of a log.
type Detail struct {
	eventlog.Status
	Name    eventlog.Name
	Node    string // HOST:PORT of the primary that has it
	Slot    int    // of a Cluster; 0 on a single node
	Entries int64  // of the stream, seals included
	Bytes   int64  // of memory, as Redis estimates it
}

// Details returns a Detail of each log, by name.
func (s *Store) Details(ctx context.Context) ([]Detail, error) {
	names, err := s.Logs(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Detail, 0, len(names))
	for _, name := range names {
		d := Detail{Name: name, Node: s.topo.Load().addr(name)}
		if s.target.cluster {
			d.Slot = slotOf(tagOf(name))
		}
		if d.Status, err = s.Status(ctx, name); err != nil {
			return nil, err
		}
		rs, err := s.read(ctx, name, func(b rueidis.Builder) rueidis.Commands {
			return rueidis.Commands{b.Xlen().Key(s.key(name)).Build(), b.MemoryUsage().Key(s.key(name)).Build()}
		})
		if err == nil {
			d.Entries, err = rs[0].AsInt64()
		}
		if err == nil {
			d.Bytes, err = rs[1].AsInt64()
		}
		if err != nil {
			return nil, s.errorf(name, "%w", err)
		}
		all = append(all, d)
	}
	return all, nil
}

// Reset deletes every log, for good. Whoever has one open, or follows one, is
// told that it is missing. The caller has made sure that this is meant.
func (s *Store) Reset(ctx context.Context) error {
	names, err := s.Logs(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		rs, err := s.read(ctx, name, func(b rueidis.Builder) rueidis.Commands {
			return rueidis.Commands{b.Del().Key(s.key(name)).Build()}
		})
		if err == nil {
			err = rs[0].Error()
		}
		if err != nil {
			errs = append(errs, s.errorf(name, "%w", err))
		}
	}
	return errors.Join(errs...)
}
