package redislog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

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
		info, err := n.info(ctx, s.opts.ReplyMax)
		if err != nil {
			return 0, fmt.Errorf("redislog: %s: %w", addr, err)
		}
		most, err := strconv.Atoi(info["maxclients"])
		if err != nil {
			return 0, fmt.Errorf("redislog: %s: maxclients is %.20q", addr, info["maxclients"])
		}
		least = min(least, most)
	}
	return least, nil
}

// A Detail is what an operator may want to know of a log.
type Detail struct {
	eventlog.Status
	Name    eventlog.Name
	Node    string        // HOST:PORT of the primary that has it
	Slot    int           // of a Cluster; 0 on a single node
	Entries int64         // of the stream, seals included
	Bytes   int64         // of memory, as Redis estimates it
	Expires time.Duration // until a TTL deletes the log: none may have one (PERSIST); 0 if it has none
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
			key := s.key(name)
			return rueidis.Commands{b.Xlen().Key(key).Build(), b.MemoryUsage().Key(key).Build(), b.Pttl().Key(key).Build()}
		})
		if err == nil {
			d.Entries, err = rs[0].AsInt64()
		}
		if err == nil {
			d.Bytes, err = rs[1].AsInt64()
		}
		var ms int64
		if err == nil {
			ms, err = rs[2].AsInt64()
			d.Expires = max(time.Duration(ms)*time.Millisecond, 0)
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
			continue
		}
		s.mu.Lock()
		delete(s.pins, name)
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}
