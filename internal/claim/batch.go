package claim

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/trail"
)

// A batch is attempts that came together, on their way through their shards
// and back. It is used again when nobody has it any more, so that an attempt
// costs no memory.
type batch struct {
	service  *Service
	attempts []cairn.Attempt
	answered func(int, *Answer) // nil: a caller waits for done
	at       cairn.Instant      // by the owner's clock, at receipt
	lookup   bool               // asks who holds the tiles; claims nothing
	calls    []call             // one an attempt
	traced   context.Context    // with the span that asks; nil unless it is in a trace

	out  atomic.Int64  // calls that are not answered, and one while they are routed
	held atomic.Int32  // who has it: the calls, as long as some are out, and a caller that waits
	done chan struct{} // capacity 1: none is out any more

	copies []cairn.Attempt // of the attempts of a caller that may go before they are decided
	chains []chain         // by shard: calls that were not handed to it yet
	linked []int32         // the shards whose chain has any
}

// batchKeep is how many calls a batch may have that is kept to be used again.
const batchKeep = 1 << 12

// A call is one attempt of a batch.
type call struct {
	batch  *batch
	lay    *Layout
	answer Answer
	grant  uint64 // what the answer waits for
	index  int32  // in the batch
	next   int32  // of the batch, for the same shard; -1 ends the chain
	halted bool
}

func (c *call) attempt() *cairn.Attempt { return &c.batch.attempts[c.index] }

// A chain is the calls of one batch for one shard, in order.
type chain struct {
	batch       *batch
	first, last int32
	n           int
	span        *chainSpan // nil unless it is in a trace
}

// each calls f with each call of a chain, which f may give away.
func (h chain) each(f func(*call)) {
	for i := h.first; i >= 0; {
		c := &h.batch.calls[i]
		i = c.next
		f(c)
	}
}

// newBatch returns a batch of attempts, which its caller has to send.
func (s *Service) newBatch(as []cairn.Attempt, lookup bool) *batch {
	b, _ := s.batches.Get().(*batch)
	if b == nil {
		b = &batch{service: s, done: make(chan struct{}, 1), chains: make([]chain, len(s.shards))}
	}
	if cap(b.calls) < len(as) {
		b.calls = make([]call, len(as))
	}
	b.calls = b.calls[:len(as)]
	b.attempts, b.lookup, b.at = as, lookup, s.now()
	b.out.Store(int64(len(as)) + 1)
	b.held.Store(1)
	return b
}

// let lets go of the batch. Whoever is the last has it used again.
func (b *batch) let() {
	if b.held.Add(-1) > 0 {
		return
	}
	select {
	case <-b.done: // its caller did not wait for it
	default:
	}
	clear(b.copies)
	b.attempts, b.answered, b.traced = nil, nil, nil
	if cap(b.calls) <= batchKeep {
		b.service.batches.Put(b)
	}
}

// ended says that n calls are answered; they must not be touched again.
func (b *batch) ended(n int64) {
	if b.out.Add(-n) > 0 {
		return
	}
	b.service.metrics.duration.Observe(b.service.now().Sub(b.at).Seconds())
	if b.answered == nil {
		b.done <- struct{}{}
	}
	b.let()
}

// send has every call decided: by the shard that owns its tile, or here.
func (b *batch) send(ctx context.Context) {
	if b.service.opts.Tracer != nil && trail.Sampled(ctx) {
		b.traced = ctx
	}
	by := time.Now().Add(b.service.opts.MapWait) // one wait for all
	var t tally
	var at *atlas
	var last mapKey
	var lay *Layout
	var halted bool
	for i := range b.calls {
		c := &b.calls[i]
		*c = call{batch: b, index: int32(i), next: -1}
		a := c.attempt()
		if key := (mapKey{a.Hunt, a.Tick}); at == nil || key != last {
			last, at = key, b.service.atlas.Load()
			if lay = at.layouts[key]; lay == nil || !b.service.caughtUp() {
				b.hand(&t) // nobody else waits for this map
				var err error
				if lay, halted, err = b.service.find(ctx, by, &a.TileRef, &c.answer.Verdict); err != nil || lay == nil {
					at = nil
					t.answer(c, err)
					continue
				}
			} else {
				halted = at.halts(a.Hunt)
			}
		}
		c.lay, c.halted = lay, halted
		switch shard, ok := lay.Shard(a.Tile); {
		case !ok:
			c.answer.Verdict = cairn.Verdict{Outcome: cairn.UnknownTile}
			t.answer(c, nil)
		case shard >= len(b.service.shards):
			t.answer(c, ErrUnavailable)
		default:
			b.link(c, shard)
		}
	}
	b.hand(&t)
	t.flush(b.service.metrics)
	b.ended(1)
}

// link puts a call into the chain for a shard.
func (b *batch) link(c *call, shard int) {
	h := &b.chains[shard]
	if h.n == 0 {
		*h = chain{batch: b, first: c.index, last: c.index}
		b.linked = append(b.linked, int32(shard))
	}
	b.calls[h.last].next = c.index
	c.next = -1
	h.last = c.index
	h.n++
}

// hand gives all chains to their shards, and answers those that are not taken.
func (b *batch) hand(t *tally) {
	for _, i := range b.linked {
		h := b.chains[i]
		b.chains[i].n = 0
		if b.traced != nil {
			h.span = b.startChain(int(i), h.n)
		}
		if err := b.service.shards[i].put(h); err != nil {
			h.span.fail(err)
			h.each(func(c *call) { t.answer(c, err) })
		}
	}
	b.linked = b.linked[:0]
}

// A tally counts what was answered in a row, so that what all share is touched
// once for many calls. Its owner flushes it.
type tally struct {
	batch    *batch // of the calls that were answered last
	n        int64  // how many of it
	outcomes [cairn.Pending + 1]uint32
	refused  uint32
	lookups  uint32
}

// answer answers a call: with its verdict, or with err if that is set. The call
// must not be touched again.
func (t *tally) answer(c *call, err error) {
	b, a := c.batch, &c.answer
	if a.Err = err; err != nil {
		a.Verdict = cairn.Verdict{}
	}
	switch {
	case b.lookup:
		t.lookups++
	case err != nil:
		t.refused++
	case a.Verdict.Outcome != 0:
		t.outcomes[a.Verdict.Outcome]++
	}
	if b.answered != nil {
		b.answered(int(c.index), a)
	}
	if t.batch != b {
		t.end()
		t.batch = b
	}
	t.n++
}

// end tells the batch of how many of its calls are answered.
func (t *tally) end() {
	if t.batch != nil {
		t.batch.ended(t.n)
	}
	t.batch, t.n = nil, 0
}

func (t *tally) flush(m *metrics) {
	t.end()
	for o, n := range t.outcomes {
		if n > 0 {
			m.outcomes[o].Add(float64(n))
		}
	}
	m.refused.Add(float64(t.refused))
	m.lookups.Add(float64(t.lookups))
	*t = tally{}
}
