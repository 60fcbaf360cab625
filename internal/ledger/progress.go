package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/veltrix/cairn/internal/eventlog"
)

// progress is how far one shard has come, for those who ask while Run runs.
type progress struct {
	mu        sync.Mutex
	read      eventlog.Offset // the last record read
	unsettled int             // records of claims that are read and not settled
	halted    error           // why the shard is not settled any more
}

func (p *progress) setRead(o eventlog.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read = o
}

func (p *progress) addUnsettled(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsettled += n
}

// reset begins anew from what is settled: nothing is under way.
func (p *progress) reset(o eventlog.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read, p.unsettled, p.halted = o, 0, nil
}

// halt notes why the shard is not settled, and reports whether that is news.
func (p *progress) halt(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	news := p.halted == nil || p.halted.Error() != err.Error()
	p.halted = err
	return news
}

// fits notes that the log is what was settled, after all.
func (p *progress) fits() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.halted = nil
}

// lag returns how many records head is ahead of what is settled. Where an
// epoch or more have not been read it counts only the last one's records.
func (p *progress) lag(head eventlog.Offset) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.unsettled
	switch {
	case !p.read.Less(head):
	case p.read.Epoch == head.Epoch:
		n += int(head.Seq - p.read.Seq)
	default:
		n += int(head.Seq) + 1
	}
	return n
}

// lagWithin bounds how long Lag asks the store for the heads of the logs.
const lagWithin = 2 * time.Second

// Lag returns how many records the logs of the shards that are settled here are
// ahead of the ledger, all together: head minus offset. 0 when Run does not run.
func (l *Ledger) Lag() int {
	l.mu.Lock()
	store, shards := l.store, maps.Clone(l.shards)
	l.mu.Unlock()
	if store == nil {
		return 0
	}
	ctx, done := context.WithTimeout(context.Background(), lagWithin)
	defer done()
	n := 0
	for shard, p := range shards {
		if st, err := store.Status(ctx, eventlog.Shard(shard)); err == nil {
			n += p.lag(st.Last)
		}
	}
	return n
}

// halted returns how many shards are halted.
func (l *Ledger) halted() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.shards {
		p.mu.Lock()
		if p.halted != nil {
			n++
		}
		p.mu.Unlock()
	}
	return n
}

// Ready returns nil while Run runs and settles all it reads, and else what is
// wrong: every shard that is halted, with its reason, or why transactions fail
// and how far that put the ledger behind.
func (l *Ledger) Ready() error {
	lag := l.Lag()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.store == nil {
		return errors.New("ledger: not following the logs")
	}
	var errs []error
	if l.failing != nil {
		errs = append(errs, fmt.Errorf("ledger: %d records behind; transactions fail and are tried again: %w", lag, l.failing))
	}
	for _, shard := range slices.Sorted(maps.Keys(l.shards)) {
		p := l.shards[shard]
		p.mu.Lock()
		if p.halted != nil {
			errs = append(errs, fmt.Errorf("ledger: shard %s is halted: %w", eventlog.Shard(shard), p.halted))
		}
		p.mu.Unlock()
	}
	return errors.Join(errs...)
}
